"""What was asked in the simulation of a seed, and what it came to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from chaos.simulation.model import Ask
from swarm.errors import SwarmError


@dataclass(slots=True)
class Request:
    """One request and what became of it."""

    client: str
    ask: Ask
    at: float  # virtual seconds after the beginning
    leave_after: int | None  # tokens, where the caller leaves early
    healed: bool = False  # asked after the faults were over
    tokens: list[int] = field(default_factory=list)
    error: SwarmError | None = None
    seconds: float = 0.0
    longest_gap: float = 0.0  # without a token
    recoveries: list[float] = field(default_factory=list)  # seconds

    def __str__(self) -> str:
        kind = "greedy" if self.ask.sampling.temperature == 0 else "sampled"
        end = f"{type(self.error).__name__}: {self.error}" if self.error else "complete"
        if self.leave_after is not None and self.error is None:
            end = f"left after {self.leave_after}"
        return (
            f"{self.client} at {self.at:.3f} s: {len(self.ask.prompt)} tokens, {kind}, {self.ask.precision}: "
            f"{len(self.tokens)} of {self.ask.tokens} in {self.seconds:.3f} s, {len(self.recoveries)} recoveries, {end}"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed came to."""

    seed: int
    ok: bool
    faults: list[str]
    tokens: int  # that came out, in all
    recoveries: int
    failover_seconds: list[float]  # virtual
    violations: list[str]
    requests: list[str]  # one line each
    failed: int  # requests that ended with an error while something was broken
    audits: int  # that came to an end
    lied: int  # requests with wrong tokens, where a worker lied
    banned: int  # liars, by clients
    events: list[str] = field(repr=False)  # everything that was traced

    @property
    def digest(self) -> str:
        """Of the whole event trace: equal runs have equal ones."""
        return hashlib.sha256("\n".join(self.events).encode()).hexdigest()

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {'ok' if self.ok else 'FAILED'}", "faults:", *_indented(self.faults)]
        lines += ["requests:", *_indented(self.requests)]
        if self.violations:
            lines += ["violations:", *_indented(self.violations)]
        return "\n".join(lines)


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
