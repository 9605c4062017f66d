"""An in-process network of UDP sockets for tests; the simulation's."""

from chaos.simulation.datagrams import SwitchedSocket, UdpSwitch

__all__ = ["SwitchedSocket", "UdpSwitch"]
