"""compressed-tensors: what its own package stores is read as that package reads it; words by hand; whole models."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from hypothesis import given, settings
from hypothesis import strategies as st
from support.quantised import Parts, check_survives, check_twins, damaged, damaged_settings, make_twins, read
from torch import Tensor

from swarm.errors import ModelFault


def config(way: str, **weights: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "symmetric": True} | weights}
    return {"quant_method": "compressed-tensors", "format": way, "config_groups": {"group_0": group}}


def compressed(way: str, weights: dict[str, Any], weight: Tensor) -> tuple[Parts, Tensor]:
    """A weight as the package compresses it, and as it decompresses that; the scales are plain arithmetic."""
    arguments = QuantizationArgs(**weights)
    outputs, inputs = weight.shape
    groups = {"tensor": weight.reshape(1, 1, -1), "channel": weight.unsqueeze(1)}.get(
        str(arguments.strategy), weight.view(outputs, -1, arguments.group_size or inputs)
    )
    steps = 448 if arguments.type == "float" else 2 ** (arguments.num_bits - 1) - 1
    state = {"weight": weight, "weight_scale": groups.abs().amax(2) / steps}
    if not arguments.symmetric:
        least, most = groups.amin(2).clamp(max=0), groups.amax(2).clamp(min=0)
        state["weight_scale"] = (most - least) / (2**arguments.num_bits - 1)
        zeros = (-(2 ** (arguments.num_bits - 1)) - least / state["weight_scale"]).round()
        state["weight_zero_point"] = zeros.clamp(-128, 127).to(torch.int8)
    if arguments.strategy == "tensor":
        state = {end: tensor if end == "weight" else tensor.flatten() for end, tensor in state.items()}
    compressor = BaseCompressor.get_value_from_registry(way)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    stored = compressor.compress(state, scheme)
    return stored, compressor.decompress(stored, scheme)["weight"]


CASES: list[tuple[str, dict[str, Any]]] = [
    ("pack-quantized", {"num_bits": bits, "symmetric": symmetric, "strategy": "group", "group_size": 32})
    for bits in (4, 8)
    for symmetric in (True, False)
]
CASES += [
    ("pack-quantized", {"num_bits": 4, "symmetric": False, "strategy": "channel"}),
    ("pack-quantized", {"num_bits": 4, "strategy": "tensor"}),
    ("int-quantized", {"num_bits": 8, "strategy": "channel"}),
    ("int-quantized", {"num_bits": 8, "strategy": "tensor", "symmetric": False}),
    ("naive-quantized", {"num_bits": 8, "symmetric": False, "strategy": "group", "group_size": 32}),
    ("naive-quantized", {"num_bits": 8, "strategy": "tensor"}),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
]


@pytest.mark.parametrize(("way", "weights"), CASES)
def test_what_the_package_compresses_is_read_as_it_reads_it(tmp_path: Path, way: str, weights: dict[str, Any]) -> None:
    weight = torch.randn(20, 96, generator=torch.Generator().manual_seed(1))  # neither is a multiple of all word sizes
    stored, expected = compressed(way, weights, weight)
    ours = read(tmp_path, stored, config(way, **weights), (20, 96))
    assert torch.equal(ours, expected.float())
    assert (ours - weight).abs().max() < 1  # and it is the weight that was compressed


@pytest.mark.parametrize("case", [1, 6])
def test_a_compressed_model_is_the_model_that_it_stands_for(tmp_path: Path, case: int) -> None:
    way, weights = CASES[case]
    check_twins(*make_twins(tmp_path, lambda weight: compressed(way, weights, weight), config(way, **weights)))


# One output, eight inputs, two groups of four. Stored numbers are raised by 8, the lowest four bits are input 0: inputs
# -8 -7 0 7 1 2 3 4 are stored as 0 1 8 15 9 10 11 12, in hex from the last to the first c b a 9 f 8 1 0.
# Zeros are packed along the outputs, of which there is one, and raised too: group 0: 1 -> 9; group 1: -8 -> 0
HAND = {
    "weight_packed": torch.tensor([[int.from_bytes(bytes.fromhex("cba9f810"), "big", signed=True)]], dtype=torch.int32),
    "weight_scale": torch.tensor([[0.5, 2.0]]),
    "weight_zero_point": torch.tensor([[9, 0]], dtype=torch.int32),
    "weight_shape": torch.tensor([1, 8]),
}
GROUPED = config("pack-quantized", strategy="group", group_size=4, symmetric=False)


def test_words_worked_out_by_hand(tmp_path: Path) -> None:
    weight = read(tmp_path, HAND, GROUPED, (1, 8))
    assert weight.tolist() == [[-4.5, -4, -0.5, 3, 18, 20, 22, 24]]  # (x - 1) / 2, and (x + 8) * 2
    index = {"weight_g_idx": torch.tensor([0, 0, 1, 1, 0, 0, 1, 1], dtype=torch.int32)}
    symmetric = config("pack-quantized", strategy="group", group_size=4)
    parts = {end: tensor for end, tensor in HAND.items() if end != "weight_zero_point"}
    assert read(tmp_path, parts | index, symmetric, (1, 8)).tolist() == [[-4, -3.5, 0, 14, 0.5, 1, 6, 8]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_shape": torch.tensor([8, 1])}, r"tensor x\.weight_shape: says \[8, 1\].*\[1, 8\]"),
        ({"weight_g_idx": torch.full((8,), 2, dtype=torch.int32)}, r"tensor x\.weight_g_idx: names a group outside"),
        ({"weight_zero_point": torch.zeros(1, 2)}, r"tensor x\.weight_zero_point: dtype F32"),
    ],
)
def test_parts_that_do_not_belong_together(tmp_path: Path, changes: Parts, message: str) -> None:
    with pytest.raises(ModelFault, match=message):
        read(tmp_path, HAND | changes, GROUPED, (1, 8))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (config("marlin-24"), "config_groups: group_0: format: 'marlin-24'"),
        (config("pack-quantized", num_bits=3), "config_groups: group_0: weights: num_bits: 3"),
        (config("pack-quantized", strategy="block"), "config_groups: group_0: weights: strategy: 'block'"),
        (GROUPED | {"config_groups": {}}, "config_groups: 0 groups"),
        (GROUPED | {"config_groups": 7}, "config_groups: 7 is no object"),
        (GROUPED | {"sparsity_config": {"format": "sparse-bitmask"}}, "sparsity_config: format"),
        (GROUPED | {"transform_config": {"config_groups": {"u": {}}}}, "transform_config"),
        (
            GROUPED | {"config_groups": {"a": {"weights": {"num_bits": 8}}, "b": {"weights": {"num_bits": 4}}}},
            "config_groups: groups that quantise weights in different ways",
        ),
    ],
)
def test_settings_that_are_not_read(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFault, match=rf"config\.json: quantization_config: {message}"):
        read(tmp_path, HAND, fields, (1, 8))


WEIGHTS = damaged_settings(GROUPED["config_groups"]["group_0"]["weights"]).map(lambda w: config("pack-quantized", **w))


@settings(max_examples=30, deadline=None)
@given(damaged(HAND), st.just(GROUPED) | damaged_settings(GROUPED) | WEIGHTS)
def test_any_damage_is_a_fault_with_a_name(parts: Parts, fields: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check_survives(Path(directory), parts, fields, (1, 8))
