"""llama.cpp's llama-bench: a prompt of so many tokens, then so many decoded from an empty cache, in tokens a second."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.errors import LocalFault

TYPES = {"fp32": "F32", "bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}  # a precision, and what is nearest to it there


@dataclass(frozen=True, slots=True)
class Report:
    """What one run said. Speeds are tokens a second."""

    prompt: float
    decode: float
    build: str
    weight_bytes: int


def arguments(model: Path, threads: int, prompt: int, tokens: int) -> list[str]:
    """One repetition of each, on the CPU, as JSON."""
    return [
        *("-m", str(model), "-t", str(threads), "-p", str(prompt), "-n", str(tokens)),
        *("-r", "1", "-ngl", "0", "-o", "json"),
    ]


def parse(text: str, prompt: int, tokens: int) -> Report:
    """Of its JSON. Raises LocalFault naming what is not there."""
    try:
        runs = json.loads(text)
        read, made = _speed(runs, prompt, 0), _speed(runs, 0, tokens)
        first = runs[0]
        build = f"{first['build_number']} ({first['build_commit']})"
        return Report(read, made, build, int(first["model_size"]))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise LocalFault(f"llama-bench: its JSON is not understood: {error!r}") from error


def _speed(runs: list[dict[str, Any]], prompt: int, tokens: int) -> float:
    for run in runs:
        if (run["n_prompt"], run["n_gen"]) == (prompt, tokens):
            return float(run["avg_ts"])
    raise KeyError(f"no run with n_prompt {prompt}, n_gen {tokens}")
