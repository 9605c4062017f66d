"""Memory that was needed and is not any more goes back to the system. Knows nothing of who needed it."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

TRIM_BYTES = 32 << 20  # held and then not any more
TRIM_SECONDS = 2.0  # later


def trim_memory() -> None:
    """Freed memory to the system; glibc keeps pages that lie below others still in use. Takes milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


class MemoryTrim:
    """Told how many bytes are held: after much was, the C library keeps what it was held in unless it is told."""

    def __init__(self, trim: Callable[[], None] = trim_memory) -> None:
        self._trim = trim
        self._bytes = 0
        self._high = 0  # the most since memory was last given back
        self._timer: asyncio.TimerHandle | None = None

    def holds(self, count: int) -> None:
        """So many bytes are held now."""
        self._bytes = count
        self._high = max(self._high, count)
        if self._timer is None and self._high - count >= TRIM_BYTES:
            self._timer = asyncio.get_running_loop().call_later(TRIM_SECONDS, self._due)

    def close(self) -> None:
        """Give nothing back any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        self._timer, self._high = None, self._bytes
        self._trim()
