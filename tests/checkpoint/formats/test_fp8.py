"""FP8 with scales: blocks, those that the matrix's edge cuts off, and one scale for all."""

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

FP8: dict[str, Any] = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [48, 40]}


def blockwise(weight: Tensor) -> tuple[Parts, Tensor]:
    """Block by block: the greatest value becomes 448, the greatest that float8 e4m3 has."""
    quantised, plain = torch.empty_like(weight, dtype=torch.float8_e4m3fn), torch.empty_like(weight)
    scales = torch.empty(-(-weight.shape[0] // 48), -(-weight.shape[1] // 40))
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            block = (slice(48 * i, 48 * i + 48), slice(40 * j, 40 * j + 40))
            scales[i, j] = weight[block].abs().max() / 448
            quantised[block] = (weight[block] / scales[i, j]).to(torch.float8_e4m3fn)
            plain[block] = quantised[block].float() * scales[i, j]
    return {"weight": quantised, "weight_scale_inv": scales}, plain


def test_a_model_in_fp8_is_the_model_that_it_stands_for(tmp_path: Path) -> None:
    check_twins(*make_twins(tmp_path, blockwise, FP8))


def test_bytes_worked_out_by_hand(tmp_path: Path) -> None:
    # e4m3 is sign, four exponent bits of bias 7, three mantissa bits:
    # 0x38 = 0 0111 000 = 1; 0xc4 = 1 1000 100 = -2 * 1.5 = -3; 0x7e = 0 1111 110 = 2^8 * 1.75 = 448; 0x01 = 2^-6 / 8
    weight = torch.tensor([[0x38, 0xC4, 0x7E], [0x01, 0x00, 0x38]], dtype=torch.uint8).view(torch.float8_e4m3fn)
    scales = torch.tensor([[2.0, 10.0], [4.0, 100.0]])  # blocks of one row and two columns; the last is cut off
    tensor = read(tmp_path, {"weight": weight, "weight_scale_inv": scales}, FP8 | {"weight_block_size": [1, 2]}, (2, 3))
    assert tensor.tolist() == [[2, -6, 4480], [2**-7, 0, 100]]
    whole = {"quant_method": "fp8"}
    for scale in (torch.tensor(0.5), torch.tensor([0.5], dtype=torch.bfloat16)):
        tensor = read(tmp_path, {"weight": weight, "weight_scale_inv": scale}, whole, (2, 3))
        assert tensor.tolist() == [[0.5, -1.5, 224], [2**-10, 0, 0.5]]


WEIGHT = {"weight": torch.ones(6, 5).to(torch.float8_e4m3fn), "weight_scale_inv": torch.ones(3, 2)}
SMALL = FP8 | {"weight_block_size": [2, 3]}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (WEIGHT | {"weight_scale_inv": torch.ones(2, 3)}, r"tensor x.weight_scale_inv: shape \[2, 3\].*\[3, 2\]"),
        (WEIGHT | {"weight": torch.ones(6, 5)}, r"tensor x.weight: dtype F32.*F8_E4M3"),
        ({"weight": WEIGHT["weight"]}, r"tensor x.weight: dtype F8_E4M3"),
        ({"weight_scale_inv": WEIGHT["weight_scale_inv"]}, r"holds tensor x.weight"),
    ],
)
def test_parts_that_do_not_belong_together(tmp_path: Path, parts: Parts, message: str) -> None:
    with pytest.raises(ModelFault, match=message):
        read(tmp_path, parts, SMALL, (6, 5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_block_size": [128]}, "weight_block_size: .* no pair"),
        ({"weight_block_size": [0, 1]}, "weight_block_size: 0"),
        ({"fmt": "e5m2"}, "fmt: 'e5m2'.*e4m3"),
        ({"quant_method": "bitsandbytes"}, "quant_method: 'bitsandbytes' is not read; known: awq, .*fp8,"),
        ({"quant_method": None}, "quant_method"),
    ],
)
def test_settings_that_are_not_read(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFault, match=rf"config\.json: quantization_config: {message}"):
        read(tmp_path, WEIGHT, FP8 | changes, (6, 5))


def test_settings_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=r"config\.json: quantization_config: 7 is no object"):
        read(tmp_path, WEIGHT, 7, (6, 5))


def test_blocks_far_wider_than_the_matrix(tmp_path: Path) -> None:
    parts = WEIGHT | {"weight_scale_inv": torch.full((1, 1), 3.0)}
    assert torch.equal(read(tmp_path, parts, FP8 | {"weight_block_size": [1 << 24] * 2}, (6, 5)), torch.full((6, 5), 3))


@settings(max_examples=30, deadline=None)
@given(damaged(WEIGHT), st.just(SMALL) | damaged_settings(SMALL))
def test_any_damage_is_a_fault_with_a_name(parts: Parts, fields: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check_survives(Path(directory), parts, fields, (6, 5))
