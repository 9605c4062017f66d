"""Kernels of our own, whose bits are a function of their inputs alone (docs/NUMERICS.md): C, compiled at installation."""

from swarm.kernels.library import GROUP, LANES, MAX_THREADS, Library, library

__all__ = ["GROUP", "LANES", "MAX_THREADS", "Library", "library"]
