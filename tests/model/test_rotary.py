"""Ropes are the same on every machine: nothing in them is a C library's logarithm."""

from __future__ import annotations

import math

import pytest
import torch
from support.models import make_config

from swarm.engine.layers.rope import inverse_frequencies
from swarm.model.rotary import Rope, logarithm
from swarm.model.spec import ModelSpec

SCALINGS = {
    "yarn": {"rope_type": "yarn", "factor": 40.0, "mscale": 0.7, "mscale_all_dim": 1.0},
    "yarn, pairs in parts": {"rope_type": "yarn", "factor": 32.0, "truncate": False},
    "longrope": {"rope_type": "longrope", "factor": 32.0, "short_factor": [1.0, 1.5, 2.0, 3.0]},
}


def rope_of(scaling: dict[str, object]) -> Rope:
    scaling = {"original_max_position_embeddings": 32, **scaling}
    (rope,) = ModelSpec.from_config(make_config(rope_scaling=scaling, head_dim=8)).ropes
    return rope


@pytest.mark.parametrize("name", SCALINGS)
def test_a_c_library_that_rounds_its_logarithms_otherwise_changes_no_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rope = rope_of(SCALINGS[name])
    frequencies, log = inverse_frequencies(rope, 8, exact=True), math.log
    monkeypatch.setattr(math, "log", lambda *of: math.nextafter(log(*of), math.inf) * (1 + 1e-6))
    assert rope_of(SCALINGS[name]) == rope
    assert torch.equal(inverse_frequencies(rope, 8, exact=True), frequencies)


@pytest.mark.parametrize("number", [2, 40, 10000, 500000, 1e6, 4096 / (32 * 2 * math.pi), 32768 / (2 * math.pi)])
def test_logarithms_are_those_of_good_libraries(number: float) -> None:
    assert logarithm(number) == pytest.approx(math.log(number), rel=2**-52)
