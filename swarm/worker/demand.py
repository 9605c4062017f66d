"""What a worker is asked: rows a second, smoothed. The clock is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable

FADE_SECONDS = 60.0  # after which a rate counts for 1/e of what it did


class Demand:
    """Told now and then how many rows came in all; between two tellings any time may pass."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._rows = 0
        self._rate = 0.0

    def rate(self, rows: int) -> float:
        """Rows a second, where so many came since the beginning."""
        now = self._now()
        passed = now - self._began
        if passed > 0:
            kept = math.exp(-passed / FADE_SECONDS)
            self._rate = kept * self._rate + (1 - kept) * (rows - self._rows) / passed
            self._began, self._rows = now, rows
        return self._rate
