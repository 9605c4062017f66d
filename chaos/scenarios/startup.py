"""Workers that are started where something is wrong with the disk."""

from __future__ import annotations

from chaos.scenarios.model import Scenario, Start

SCENARIOS = (
    Scenario(
        15,
        "bad-disk",
        "a disk that is full or read only, a flipped bit in the weights: it serves exactly, or names what is wrong",
        (),
        starts=(
            Start("a flipped bit in the weights", flipped=True, serves=False),
            Start("read only, with a key", disk="read-only"),
            Start("read only, without a key", disk="read-only", key=False, serves=False),
            Start("full, with a key", disk="full"),
            Start("full, without a key", disk="full", key=False, serves=False),
        ),
    ),
)
