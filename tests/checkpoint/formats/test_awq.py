"""AWQ: the order of numbers in a word by hand, groups, zero points, and a whole model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.quantised import Parts, check_survives, check_twins, damaged, damaged_settings, make_twins, read
from torch import Tensor

from swarm.errors import ModelFault

AWQ: dict[str, Any] = {
    "quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True,
}  # fmt: skip


def word(digits: str) -> int:
    """Eight hex digits, the highest four bits first, as the int32 that they are."""
    return int.from_bytes(bytes.fromhex(digits), "big", signed=True)


# Eight outputs, two inputs, each its own group. The four lowest bits of a word are output 0, the next output 2, then
# 4, 6, 1, 3, 5, 7; in hex, highest first, the digits are hence outputs 7 5 3 1 6 4 2 0.
# Input 0: outputs 0..7 hold 0 1 2 3 4 5 6 7, so the digits are 7 5 3 1 6 4 2 0.
# Input 1: outputs 0..7 hold 15 0 1 0 0 0 0 8, so the digits are 8 0 0 0 0 0 1 f.
# Zeros, packed alike and as they are: group 0: all 0 but output 7, which has 7 -> 7 0 0 0 0 0 0 0;
# group 1: outputs 0..7 are 8 0 1 0 0 0 0 9 -> 9 0 0 0 0 0 1 8
HAND = {
    "qweight": torch.tensor([[word("75316420")], [word("8000001f")]], dtype=torch.int32),
    "qzeros": torch.tensor([[word("70000000")], [word("90000018")]], dtype=torch.int32),
    "scales": torch.tensor([[0.5] * 8, [1, 1, 1, 1, 1, 1, 1, 4]], dtype=torch.float16),
}
SMALL = AWQ | {"group_size": 1}


def test_words_worked_out_by_hand(tmp_path: Path) -> None:
    weight = read(tmp_path, HAND, SMALL, (8, 2))
    assert weight[:, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 0]  # number / 2, and (7 - 7) / 2
    assert weight[:, 1].tolist() == [7, 0, 0, 0, 0, 0, 0, -4]  # 15 - 8, 1 - 1, (8 - 9) * 4
    whole = {end: tensor if end == "qweight" else tensor[:1] for end, tensor in HAND.items()}
    weight = read(tmp_path, whole, AWQ | {"group_size": -1}, (8, 2))
    assert weight[:, 1].tolist() == [7.5, 0, 0.5, 0, 0, 0, 0, 0.5]  # input 1 in input 0's group


def quantise(weight: Tensor) -> tuple[Parts, Tensor]:
    """Groups of 32 inputs between their least and greatest; packed output by output."""
    outputs, inputs = weight.shape
    groups = weight.view(outputs, inputs // 32, 32)
    least, most = groups.amin(2).clamp(max=0), groups.amax(2).clamp(min=0)
    scales = ((most - least) / 15).half()
    zeros = (-least / scales.float()).round().clamp(0, 15).long()
    numbers = ((groups / scales.float()[..., None]).round().long() + zeros[..., None]).clamp(0, 15)
    plain = ((numbers - zeros[..., None]) * scales.float()[..., None]).view(outputs, inputs)

    def packed(values: Tensor) -> Tensor:  # [rows, outputs]
        words = torch.zeros(values.shape[0], outputs // 8, dtype=torch.int64)
        for place, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            words += values[:, output::8] << (4 * place)
        return words.int()

    return {"qweight": packed(numbers.view(outputs, inputs).T), "qzeros": packed(zeros.T), "scales": scales.T}, plain


def test_a_model_in_awq_is_the_model_that_it_stands_for(tmp_path: Path) -> None:
    check_twins(*make_twins(tmp_path, quantise, AWQ))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 8}, "bits: 8 is not read; known: 4"),
        ({"version": "gemv"}, "version: 'gemv'"),
        ({"zero_point": False}, "zero_point: False"),
        ({"group_size": None}, "group_size"),
    ],
)
def test_settings_that_are_not_read(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFault, match=rf"config\.json: quantization_config: {message}"):
        read(tmp_path, HAND, SMALL | changes, (8, 2))


@settings(max_examples=30, deadline=None)
@given(damaged(HAND), st.just(SMALL) | damaged_settings(SMALL))
def test_any_damage_is_a_fault_with_a_name(parts: Parts, fields: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check_survives(Path(directory), parts, fields, (8, 2))
