"""MXFP4: bytes by hand, and any bytes as transformers reads them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from support.quantised import Parts, check_survives, damaged, damaged_settings, read
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from swarm.errors import ModelFault

MXFP4: dict[str, Any] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}


def test_bytes_worked_out_by_hand(tmp_path: Path) -> None:
    # The lower half of a byte comes first: 0x72 is 2 then 7. Codes 0..7 are 0 .5 1 1.5 2 3 4 6, and 8 more is minus
    parts = {
        "weight_blocks": torch.tensor([0x72, 0xF1, 0x80, *[0] * 13], dtype=torch.uint8).view(1, 1, 1, 16),
        "weight_scales": torch.tensor([[[129]]], dtype=torch.uint8),  # 2^(129 - 127) = 4
    }
    weight = read(tmp_path, parts, MXFP4, (1, 32, 1))
    assert weight.flatten().tolist() == [4, 24, 2, -24, 0, 0, *[0] * 26]
    smallest = read(tmp_path, parts | {"weight_scales": torch.zeros(1, 1, 1, dtype=torch.uint8)}, MXFP4, (1, 32, 1))
    assert smallest[0, 0, 0].item() == 2.0**-127


def test_any_bytes_are_read_as_transformers_reads_them(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (3, 10, 4, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(7, 247, (3, 10, 4), generator=generator, dtype=torch.uint8)
    weight = read(tmp_path, {"weight_blocks": blocks, "weight_scales": scales}, MXFP4, (3, 128, 10))
    assert torch.equal(weight, convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))


SMALL = {
    "weight_blocks": torch.zeros(2, 3, 1, 16, dtype=torch.uint8),
    "weight_scales": torch.zeros(2, 3, 1, dtype=torch.uint8),
}


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=r"tensor x\.weight_scales: shape \[3, 2, 1\].*\[2, 3, 1\]"):
        read(tmp_path, SMALL | {"weight_scales": torch.zeros(3, 2, 1, dtype=torch.uint8)}, MXFP4, (2, 32, 3))


@settings(max_examples=30, deadline=None)
@given(damaged_settings(MXFP4))
def test_any_settings_are_read_or_a_fault_names_them(settings: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check_survives(Path(directory), SMALL, settings, (2, 32, 3))


@pytest.mark.parametrize("kept", ["x", "x.weight", "*", "weight", "[wx].*"])
def test_modules_that_are_kept(tmp_path: Path, kept: str) -> None:
    with pytest.raises(ModelFault, match=r"no file of the model holds tensor x\.weight"):
        read(tmp_path, SMALL, MXFP4 | {"modules_to_not_convert": [kept]}, (2, 32, 3))


@pytest.mark.parametrize("kept", ["w", "x.w", "eight", "x.weight.*", "[", ""])
def test_modules_that_are_not(tmp_path: Path, kept: str) -> None:
    read(tmp_path, SMALL, MXFP4 | {"modules_to_not_convert": [kept] if kept else None}, (2, 32, 3))


@settings(max_examples=30, deadline=None)
@given(damaged(SMALL))
def test_any_damage_is_a_fault_with_a_name(parts: Parts) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check_survives(Path(directory), parts, MXFP4, (2, 32, 3))
