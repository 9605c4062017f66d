"""Whose kernels compute where nobody said: portable ones wherever they can, else torch's, and why those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import torch

from swarm.engine.numerics import only_portable
from swarm.kernels import library
from swarm.model.layer_kinds import LayerKind

LEAST_CAPABILITY = (8, 0)  # of an NVIDIA GPU
ASKED = ("auto", "native", "portable")  # what may be asked for


class Described(Protocol):
    """What is asked of a spec here."""

    @property
    def kinds(self) -> Sequence[LayerKind]: ...


@dataclass(frozen=True, slots=True)
class NumericsChoice:
    """Whose kernels compute a model."""

    numerics: str  # "native" or "portable"
    reason: str | None = None  # why they are not portable where that was left open


def choose_numerics(asked: str, precision: str, device: str, spec: Described) -> NumericsChoice:
    """`asked` is one of ASKED; what was named is taken as it is, and refused where it is loaded if it cannot be."""
    if asked != "auto":
        return NumericsChoice(asked)
    if only_portable(precision, len(spec.kinds)):
        return NumericsChoice("portable")
    reason = obstacle(device)
    return NumericsChoice("portable") if reason is None else NumericsChoice("native", reason)


def no_programs(place: torch.device) -> str | None:
    """What keeps a device from computing programs; None: nothing does."""
    if place.type == "cpu":
        return None
    if place.type != "cuda" or torch.version.hip is not None:
        return f"portable numerics compute on CPUs and, by Triton, on CUDA, not on {'ROCm' if torch.version.hip else place}"
    if find_spec("triton") is None:
        return (
            "on CUDA portable numerics compute by Triton, which is not installed: it comes with torch's builds for CUDA"
        )
    if torch.cuda.get_device_capability(place) < LEAST_CAPABILITY:
        return f"Triton's dot products of bytes take compute capability {'.'.join(map(str, LEAST_CAPABILITY))}: {place} has less"
    return None


def obstacle(device: str) -> str | None:
    """What keeps portable kernels from computing here; None: nothing does."""
    if device.startswith("cuda"):
        return f"portable numerics on {device} have not been seen on a GPU yet; --numerics portable takes them nevertheless"
    if not device.startswith("cpu"):
        return f"portable numerics compute on CPUs, not on {device}"
    if library() is None:
        return "the kernels of portable numerics were not built when swarm was installed, or cannot be loaded here"
    return None
