"""llama.cpp's llama-perplexity: how well a text is predicted, by windows of which the second half is judged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import LocalFault

FINAL = re.compile(r"Final estimate: PPL = ([0-9.]+) \+/- ([0-9.]+)")
MAX_SHOWN = 400  # characters of what it said instead


@dataclass(frozen=True, slots=True)
class Perplexity:
    """What one run said."""

    perplexity: float
    error: float  # of one standard deviation


def arguments(model: Path, text: Path, threads: int, window: int, windows: int) -> list[str]:
    """One window at a time, on the CPU. It asks for a text of two windows at least."""
    return [
        *("-m", str(model), "-f", str(text), "-t", str(threads), "-c", str(window), "-b", str(window)),
        *("--chunks", str(windows), "-ngl", "0"),
    ]


def parse(text: str) -> Perplexity:
    """Of what it printed. Raises LocalFault with its last words."""
    found = FINAL.search(text)
    if found is None:
        raise LocalFault(f"llama-perplexity: said no figure: {text.strip()[-MAX_SHOWN:]}")
    return Perplexity(float(found[1]), float(found[2]))
