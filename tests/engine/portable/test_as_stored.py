"""Models computed as their files hold them: near what the same numbers give as floats, in the memory of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType as Type
from support.gguf import to_gguf
from support.models import make_model
from torch import Tensor

from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import Head, Stage
from swarm.engine.backends import open_model
from swarm.engine.backends.own import OwnModel
from swarm.engine.layers.attention import Attention
from swarm.engine.portable.linear import PortableLinear
from swarm.errors import UsageFault
from swarm.span import LayerSpan

IDS = list(range(40, 60))
SHAPE = {"num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512}
MIXED = {"attn_k": Type.Q8_0, "attn_v": Type.F16, "ffn_down": Type.MXFP4, "attn_q": Type.F32}


def mixed(name: str, tensor: Tensor) -> Type:
    """Kinds that differ within a layer, one of which becomes another."""
    if tensor.dim() < 2:
        return Type.F32
    return MIXED.get(name.split(".")[2] if name.startswith("blk.") else "", Type.Q4_0)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("plain") / "plain", **SHAPE)


def loaded(model: Path, precision: str) -> tuple[Stage, Head]:
    how = {"precision": precision, "numerics": "portable"}
    return Stage.load(model, **how), Head.load(model, **how)  # type: ignore[arg-type]


def answers(model: Path, precision: str) -> Tensor:
    stage, head = loaded(model, precision)
    return head.logits(stage.chunk(stage.open(len(IDS)), head.embed(IDS, 0)))


@pytest.mark.parametrize("kind", [Type.Q8_0, Type.Q4_0], ids=str)
def test_a_file_in_one_kind(plain: Path, tmp_path: Path, kind: Type) -> None:
    model = to_gguf(plain, tmp_path / "x.gguf", lambda name, tensor: kind if tensor.dim() > 1 else Type.F32)
    exact, found = answers(model, "fp32"), answers(model, "as-stored")
    assert (found - exact).norm() < 0.03 * exact.norm()  # what rounding rows to eight bits costs
    stage, head = loaded(model, "as-stored")
    assert stage.numerics == head.numerics == "portable-1:as-stored"
    tensors = StoredTensors.open(model)
    in_file = sum(len(tensors.view(name)) for name in tensors.file_of if name.startswith("blk."))
    assert stage.weight_bytes == in_file == OwnModel.open(model).footprint(stage.span, "as-stored")
    with_head = OwnModel.open(model).footprint(stage.span, "as-stored", with_head=True)
    assert in_file + head.logits_bytes < with_head < in_file + head.weight_bytes + 1


def test_kinds_that_differ_within_a_layer(plain: Path, tmp_path: Path) -> None:
    model = to_gguf(plain, tmp_path / "x.gguf", mixed)
    exact, found = answers(model, "fp32"), answers(model, "as-stored")
    assert (found - exact).norm() < 0.03 * exact.norm()
    stage, head = loaded(model, "as-stored")
    attention = stage.decoder.layers[0].mixer
    assert isinstance(attention, Attention)
    assert isinstance(attention.qkv, PortableLinear)
    assert [part.kind for part in attention.qkv.parts] == ["fp32", "int8", "fp16"]
    cache = stage.open(len(IDS))
    rows = head.embed(IDS, 0)
    pieces = [stage.chunk(cache, rows[:7]), *(stage.decode([(cache, row)])[0] for row in torch.split(rows[7:], 1))]
    assert torch.equal(head.logits(torch.cat(pieces)), found)


def test_kinds_of_super_blocks(plain: Path, tmp_path: Path) -> None:
    """As files called Q4_K_M have them."""
    wide = {"attn_v": Type.Q6_K, "ffn_down": Type.Q6_K, "token_embd": Type.Q6_K}

    def kinds(name: str, tensor: Tensor) -> Type:
        if tensor.dim() < 2:
            return Type.F32
        return next((kind for part, kind in wide.items() if part in name), Type.Q4_K)

    model = to_gguf(plain, tmp_path / "x.gguf", kinds)
    exact, found = answers(model, "fp32"), answers(model, "as-stored")
    assert (found - exact).norm() < 0.03 * exact.norm()
    stage, head = loaded(model, "as-stored")
    assert {part.kind for layer in stage.decoder.layers for part in layer.mixer.qkv.parts} == {"q4_k", "q6_k"}  # type: ignore[union-attr]
    assert stage.weight_bytes + head.logits_bytes < 1.01 * model.stat().st_size


def test_floats_as_they_are(plain: Path, tmp_path: Path) -> None:
    assert torch.equal(answers(to_gguf(plain, tmp_path / "x.gguf"), "as-stored"), answers(plain, "as-stored"))


def test_natively_it_is_refused(plain: Path) -> None:
    with pytest.raises(UsageFault, match="--precision as-stored: only --numerics portable"):
        Stage.load(plain, precision="as-stored")


def test_where_files_are_elsewhere_they_are_reckoned_as_bf16(tmp_path: Path) -> None:
    model = make_model(tmp_path / "m", shards=2)
    (model / "model-00002-of-00002.safetensors").unlink()
    opened = open_model(model)
    first, last = LayerSpan(0, 1), LayerSpan(3, 4)
    assert 0 < opened.footprint(last, "as-stored") <= opened.footprint(last, "bf16")
    assert opened.footprint(first, "as-stored") > opened.footprint(first, "bf16")  # its file is here, and of fp32
