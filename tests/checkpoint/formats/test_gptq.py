"""GPTQ: words worked out by hand, groups in order and not, both versions of zero points, and a whole model."""

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

GPTQ: dict[str, Any] = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}


def word(digits: str) -> int:
    """Eight hex digits, the highest four bits first, as the int32 that they are."""
    return int.from_bytes(bytes.fromhex(digits), "big", signed=True)


# Eight inputs, eight outputs, two groups of four inputs. Number i of a word lies in bits 4i to 4i+3, so that a word
# written in hex reads from its last number to its first. Column j of qweight holds the weights of output j:
# output 0: inputs 0..7 are 1 2 3 4 5 6 7 8 -> 0x87654321; output 1: 0 0 0 0 15 15 15 15 -> 0xffff0000; others 8 8 8 8...
# Zeros of outputs 0..7, group 0: 1 8 9 8 8 8 8 8 -> 0x88888981, stored less 0x11111111 -> 0x77777870;
# group 1: 0 8 8 8 8 8 8 15 -> 0xf8888880, less 0x11111111 -> 0xe777776f: the 0 has become 15 and taken 1 from the next
HAND = {
    "qweight": torch.tensor([[word("87654321"), word("ffff0000"), *[word("88888888")] * 6]], dtype=torch.int32),
    "qzeros": torch.tensor([[word("77777870")], [word("e777776f")]], dtype=torch.int32),
    "scales": torch.tensor([[0.5] * 8, [2.0] * 8], dtype=torch.float16),
}
SMALL = GPTQ | {"group_size": 4}


def test_words_worked_out_by_hand(tmp_path: Path) -> None:
    weight = read(tmp_path, HAND, SMALL, (8, 8))
    # Output 0: group 0 has zero 1 and scale 1/2: (1-1)/2, (2-1)/2 ...; group 1 has zero 0 and scale 2: 5*2, 6*2 ...
    assert weight[0].tolist() == [0, 0.5, 1, 1.5, 10, 12, 14, 16]
    assert weight[1].tolist() == [-4, -4, -4, -4, 14, 14, 14, 14]  # (0-8)/2 and (15-8)*2
    assert weight[2].tolist() == [-0.5] * 4 + [0] * 4  # zeros 9 and 8
    assert weight[7].tolist() == [0] * 4 + [-14] * 4  # zeros 8 and 15
    second = read(tmp_path, HAND, SMALL | {"checkpoint_format": "gptq_v2"}, (8, 8))
    assert second[0].tolist() == [0.5, 1, 1.5, 2, -20, -18, -16, -14]  # zeros as they are stored: 0 and 15
    assert second[1].tolist() == [-3.5] * 4 + [18] * 4  # 7 and 6
    mixed = read(tmp_path, HAND | {"g_idx": torch.tensor([0, 1, 0, 1, 0, 1, 0, 1], dtype=torch.int32)}, SMALL, (8, 8))
    assert mixed[0].tolist() == [0, 4, 1, 8, 2, 12, 3, 16]  # even inputs (x-1)/2, odd ones 2x


def test_symmetric_zeros_are_half_the_range_whichever_version_stored_them(tmp_path: Path) -> None:
    symmetric = SMALL | {"sym": True}
    for stored in ("77777777", "88888888"):  # less one, and as they are in a file that says the former
        zeros = torch.tensor([[word(stored)], [word(stored)]], dtype=torch.int32)
        weight = read(tmp_path, HAND | {"qzeros": zeros}, symmetric, (8, 8))
        assert weight[1].tolist() == [-4] * 4 + [14] * 4  # (0 - 8) / 2 and (15 - 8) * 2
    assert read(tmp_path, HAND, symmetric, (8, 8))[0].tolist() == [0, 0.5, 1, 1.5, 10, 12, 14, 16]


def test_eight_bits_and_one_group_for_all(tmp_path: Path) -> None:
    # Four numbers a word, lowest byte first: inputs 0..3 of output 0 are 1, 128, 255, 0; the zero 128 is stored as 127
    parts = {
        "qweight": torch.tensor([[word("00ff8001"), 0, 0, 0]], dtype=torch.int32),
        "qzeros": torch.tensor([[word("7f7f7f7f")]], dtype=torch.int32),
        "scales": torch.ones(1, 4),
    }
    weight = read(tmp_path, parts, GPTQ | {"bits": 8, "group_size": -1}, (4, 4))
    assert weight.tolist() == [[-127, 0, 127, -128], *[[-128] * 4] * 3]


def quantise(order: bool, weight: Tensor) -> tuple[Parts, Tensor]:
    """Each group of 32 inputs of each output between its least and its greatest; packed number by number."""
    outputs, inputs = weight.shape
    generator = torch.Generator().manual_seed(inputs)
    group = (torch.randperm(inputs, generator=generator) if order else torch.arange(inputs)) // 32
    groups = inputs // 32
    numbers, plain = torch.empty(inputs, outputs, dtype=torch.int64), torch.empty_like(weight)
    scales, zeros = torch.empty(groups, outputs), torch.empty(groups, outputs, dtype=torch.int64)
    for each in range(groups):
        members = weight[:, group == each]
        least, most = members.amin(1).clamp(max=0), members.amax(1).clamp(min=0)
        scales[each] = ((most - least) / 15).half().float()
        zeros[each] = (-least / scales[each]).round().clamp(0, 15).long()
        whole = (members / scales[each, :, None]).round().long() + zeros[each, :, None]
        numbers[group == each] = whole.clamp(0, 15).T
        plain[:, group == each] = (whole.clamp(0, 15) - zeros[each, :, None]) * scales[each, :, None]
    qweight = torch.zeros(inputs // 8, outputs, dtype=torch.int64)
    for i in range(inputs):
        qweight[i // 8] += numbers[i] << (4 * (i % 8))
    qzeros = torch.zeros(groups, outputs // 8, dtype=torch.int64)
    for j in range(outputs):
        qzeros[:, j // 8] += zeros[:, j] << (4 * (j % 8))
    parts = {
        "qweight": qweight.int(),
        "qzeros": (qzeros - 0x11111111).int(),
        "scales": scales.half(),
        "g_idx": group.int(),
    }
    return parts, plain


@pytest.mark.parametrize("order", [False, True])
def test_a_model_in_gptq_is_the_model_that_it_stands_for(tmp_path: Path, order: bool) -> None:
    check_twins(*make_twins(tmp_path, lambda weight: quantise(order, weight), GPTQ | {"desc_act": order}))


@pytest.mark.parametrize("index", [[0, 0, 0, 2] * 2, [-1] * 8])
def test_groups_that_are_not_there(tmp_path: Path, index: list[int]) -> None:
    with pytest.raises(ModelFault, match=r"model\.safetensors: tensor x\.g_idx: names a group outside the 2"):
        read(tmp_path, HAND | {"g_idx": torch.tensor(index, dtype=torch.int32)}, SMALL, (8, 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 3}, "bits: 3 is not read; known: 4, 8"),
        ({"bits": None}, "bits"),
        ({"group_size": 0}, "group_size: 0"),
        ({"group_size": None}, "group_size"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format: 'marlin'"),
    ],
)
def test_settings_that_are_not_read(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFault, match=rf"config\.json: quantization_config: {message}"):
        read(tmp_path, HAND, SMALL | changes, (8, 8))


@settings(max_examples=30, deadline=None)
@given(damaged(HAND | {"g_idx": torch.zeros(8, dtype=torch.int32)}), st.just(SMALL) | damaged_settings(SMALL))
def test_any_damage_is_a_fault_with_a_name(parts: Parts, fields: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check_survives(Path(directory), parts, fields, (8, 8))
