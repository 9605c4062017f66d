"""How far machines are from each other: as it is asked for, and what it alone allows. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from swarm.errors import UsageFault

_TEXT = re.compile(r"(\d+(?:\.\d+)?)(ms|s),(\d+(?:\.\d+)?)(kbit|mbit|gbit)")
_SECONDS = {"ms": 1e-3, "s": 1.0}
_BYTES = {"kbit": 1e3 / 8, "mbit": 1e6 / 8, "gbit": 1e9 / 8}


@dataclass(frozen=True, slots=True)
class Distance:
    """Of every link between two machines, each way."""

    delay: float  # seconds, one way
    rate: float  # bytes a second

    @classmethod
    def parse(cls, text: str) -> Distance:
        """Such as 20ms,100mbit. Raises UsageFault."""
        found = _TEXT.fullmatch(text.strip().lower())
        if found is None or not (delay := float(found[1])) or not (rate := float(found[3])):
            raise UsageFault(f"--wan {text}: wants a one-way delay and a bandwidth, such as 20ms,100mbit")
        return cls(delay * _SECONDS[found[2]], rate * _BYTES[found[4]])

    def trips(self, hops: int, *, direct: bool) -> int:
        """One-way trips of a token over so many hops: each hop to the next and home, or each from the client and back."""
        return hops + 1 if direct else 2 * hops

    def token_seconds(self, hops: int, compute: float, row_bytes: int, *, direct: bool) -> float:
        """Of a token at least, whose layers take so long in all."""
        return compute + self.trips(hops, direct=direct) * (self.delay + row_bytes / self.rate)

    def prompt_seconds(
        self, hops: int, compute: float, chunk_bytes: float, chunks: int, cores_alike: int, *, direct: bool
    ) -> float:
        """Of a prompt at least, in chunks one behind the other, that takes one machine so long. `cores_alike`: how many hops can
        compute at once; where they share one machine's cores, one."""
        trips = self.trips(hops, direct=direct)
        chunk = compute / chunks / hops  # through one hop
        alone = trips * (self.delay + chunk_bytes / self.rate) + hops * chunk
        slowest = max(chunk * hops / cores_alike, chunk_bytes / self.rate)
        return alone + (chunks - 1) * slowest
