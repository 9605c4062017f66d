"""What a user allows of workers, however well they would do: where they stand, how far away they are. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.records import PeerRecord
from swarm.routing.cost import ASSUMED_ROUND_TRIP, Measurement


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the workers that a chain may have."""

    regions: frozenset[str] = frozenset()  # one of which a worker names as its own; empty: anywhere
    latency: float | None = None  # seconds of a round trip to a worker at most; one not measured counts as assumed

    def refusal(self, record: PeerRecord, measurement: Measurement) -> str | None:
        """Why this worker is not allowed, in words that end "1 is …"; None if it is."""
        if self.regions and record.region not in self.regions:
            return f"outside {' and '.join(sorted(self.regions))} (--region)"
        measured = measurement.round_trip
        if self.latency is None or (ASSUMED_ROUND_TRIP if measured is None else measured) <= self.latency:
            return None
        far = "further away than" if measured is not None else "not measured, so perhaps further away than"
        return f"{far} {self.latency * 1e3:g} ms (--max-latency)"


NO_LIMITS = Limits()
