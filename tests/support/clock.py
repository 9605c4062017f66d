"""Virtual time for tests; the simulation's."""

from chaos.simulation.clock import START, Stuck, VirtualLoop, run_virtual

__all__ = ["START", "Stuck", "VirtualLoop", "run_virtual"]
