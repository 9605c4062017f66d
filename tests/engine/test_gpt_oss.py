"""gpt-oss as it is stored: experts on top of each other in MXFP4, read one by one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.families_oss import gpt_oss
from support.mxfp4 import SETTINGS, make_mxfp4_twins
from support.oracles import difference, oracle_of
from support.quantised import FILE, Parts, check_twins
from torch import Tensor

from swarm.checkpoint import manifest
from swarm.checkpoint.config import read_spec
from swarm.checkpoint.formats import mxfp4
from swarm.engine import Head, Stage, footprint
from swarm.errors import ModelFault
from swarm.span import LayerSpan

# Inputs of 96 and 352: whole blocks, and widths that an MLP pads
CONFIG = gpt_oss(hidden_size=96, intermediate_size=352, num_hidden_layers=2, head_dim=24, swiglu_limit=1.5)
GATE_UP = "model.layers.1.mlp.experts.gate_up_proj"


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_mxfp4_twins(tmp_path_factory.mktemp("mxfp4"), CONFIG)


def test_the_bits_of_the_same_numbers_in_plain_floats(twins: tuple[Path, Path]) -> None:
    check_twins(*twins)


def test_logits_as_the_oracle_s(twins: tuple[Path, Path]) -> None:
    quantised, plain = twins
    prompt = torch.randint(0, 256, (90,), generator=torch.Generator().manual_seed(3)).tolist()
    stage, head = Stage.load(quantised, precision="fp32"), Head.load(quantised, precision="fp32")
    ours = head.logits(stage.chunk(stage.open(90), head.embed(prompt, 0)))
    with torch.inference_mode():
        theirs = oracle_of(plain)(torch.tensor([prompt])).logits[0]
    assert difference(ours, theirs) < 1e-5


def test_modules_that_are_stored_as_they_are(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "modules_to_not_convert": [*SETTINGS["modules_to_not_convert"], "model.layers.1.mlp.experts"],
    }
    check_twins(*make_mxfp4_twins(tmp_path, CONFIG, settings, kept=".layers.1."))


def test_what_the_config_keeps_as_it_is_is_not_looked_for_elsewhere(twins: tuple[Path, Path], tmp_path: Path) -> None:
    tensors = load_file(twins[0] / FILE)
    save_file(tensors, tmp_path / FILE)
    kept = {**CONFIG, "quantization_config": {**SETTINGS, "modules_to_not_convert": ["layers.1.mlp"]}}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    with pytest.raises(ModelFault, match=f"no file of the model holds tensor {GATE_UP}$"):
        Stage.load(tmp_path)
    Stage.load(tmp_path, LayerSpan(0, 1))


def test_one_expert_at_a_time(twins: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    original: Callable[[Tensor, Tensor], Tensor] = mxfp4._dequantised

    def spy(packed: Tensor, scales: Tensor) -> Tensor:
        made.append(tuple(packed.shape))
        return original(packed, scales)

    monkeypatch.setattr(mxfp4, "_dequantised", spy)
    Stage.load(twins[0], LayerSpan(1, 2))
    # Gates, ups and what leads back, of each of five experts, and nothing twice
    assert sorted(made) == sorted([(1, 352, 3, 16), (1, 352, 3, 16), (1, 96, 11, 16)] * 5)


def test_a_stored_tensor_is_verified_once(twins: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    manifest.read_manifest(twins[0])
    verified: list[str] = []
    original = manifest.tensor_digest
    monkeypatch.setattr(manifest, "tensor_digest", lambda file, name: (verified.append(name), original(file, name))[1])
    seen: list[tuple[int, int]] = []
    Stage.load(twins[0], progress=lambda done, total: seen.append((done, total)))
    of_layers = {name: tensor for name, tensor in load_file(twins[0] / FILE).items() if ".layers." in name}
    assert sorted(verified) == sorted(of_layers)
    assert seen[-1] == (sum(tensor.nbytes for tensor in of_layers.values()),) * 2


def test_it_takes_what_the_plain_one_takes(twins: tuple[Path, Path]) -> None:
    span = LayerSpan(0, 2)
    ours, theirs = (footprint(read_spec(directory), span, "bf16") for directory in twins)
    assert ours == theirs
    loaded = [Stage.load(directory).weight_bytes for directory in twins]
    assert ours <= loaded[0] == loaded[1] <= 1.2 * ours


def test_a_damaged_block_is_caught_by_who_holds_the_layer(twins: tuple[Path, Path], tmp_path: Path) -> None:
    for name in (FILE, "config.json"):
        (tmp_path / name).write_bytes((twins[0] / name).read_bytes())
    manifest.read_manifest(tmp_path)
    content, place = bytearray((tmp_path / FILE).read_bytes()), tmp_path / "swarm.manifest.json"
    length = int.from_bytes(content[:8], "little")
    content[8 + length + json.loads(content[8 : 8 + length])[f"{GATE_UP}_blocks"]["data_offsets"][0]] ^= 1
    (tmp_path / FILE).write_bytes(content)
    status, cached = (tmp_path / FILE).stat(), json.loads(place.read_text())
    cached["stamp"][FILE] = [
        status.st_size,
        status.st_mtime_ns,
    ]  # as if the file's time had not changed: a failing disk
    place.write_text(json.dumps(cached))
    with pytest.raises(ModelFault, match=f"{FILE}: tensor {GATE_UP}_blocks: its bytes do not match"):
        Stage.load(tmp_path)
    Stage.load(tmp_path, LayerSpan(0, 1))


def changed(parts: Parts, name: str, tensor: Tensor | None) -> Parts:
    others = {other: each for other, each in parts.items() if other != name}
    return others if tensor is None else {**others, name: tensor}


BLOCKS, SCALES = f"{GATE_UP}_blocks", f"{GATE_UP}_scales"
WRONG: dict[str, tuple[str, Tensor | None, dict[str, Any]]] = {
    # what is put in its place, and what the config says besides
    "no-scales": (SCALES, None, {}),
    "no-blocks": (BLOCKS, None, {}),
    "fewer-experts": (BLOCKS, torch.zeros(4, 704, 3, 16, dtype=torch.uint8), {}),
    "flat": (BLOCKS, torch.zeros(5, 704, 48, dtype=torch.uint8), {}),
    "signed": (BLOCKS, torch.zeros(5, 704, 3, 16, dtype=torch.int8), {}),
    "other-blocks": (SCALES, torch.zeros(5, 704, 6, dtype=torch.uint8), {}),
    "no-bias": (f"{GATE_UP}_bias", None, {}),
    "narrow-bias": (f"{GATE_UP}_bias", torch.zeros(5, 352), {}),
    "no-sinks": ("model.layers.1.self_attn.sinks", None, {}),
    "more-sinks": ("model.layers.1.self_attn.sinks", torch.zeros(5), {}),
    "giant": (GATE_UP.replace(".1.", ".0."), None, {"intermediate_size": 1 << 24}),
    "many-experts": ("model.layers.0.mlp.", None, {"num_local_experts": 1024}),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_before_anything_is_made(twins: tuple[Path, Path], tmp_path: Path, case: str) -> None:
    name, tensor, says = WRONG[case]
    save_file(changed(load_file(twins[0] / FILE), name, tensor), tmp_path / FILE)
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": SETTINGS, **says}))
    with pytest.raises(ModelFault, match=f"tensor {name}"):
        Stage.load(tmp_path)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([BLOCKS, SCALES, f"{GATE_UP}_bias", "model.layers.1.mlp.experts.down_proj_blocks"]),
    st.lists(st.integers(0, 9), max_size=5),
    st.sampled_from([torch.uint8, torch.int8, torch.float16, torch.float32, torch.bool]),
)
def test_any_other_tensor_in_its_place_is_named(
    twins: tuple[Path, Path], name: str, shape: list[int], dtype: torch.dtype
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        save_file(changed(load_file(twins[0] / FILE), name, torch.zeros(shape, dtype=dtype)), place / FILE)
        (place / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": SETTINGS}))
        with pytest.raises(ModelFault, match=f"tensor {name}: "):
            Stage.load(place)
