"""GGUF: what its own package writes is read as that package reads it; a whole model; damage anywhere in the header."""

from __future__ import annotations

import json
import tempfile
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, quants
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gguf import finish, paired, quantised
from support.models import make_config, make_tensors
from support.quantised import check_twins, save_model

from swarm.checkpoint.gguf.file import TYPES, open_gguf
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import Head, Stage
from swarm.errors import ModelFault

SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "head_dim": 64}
NAMES = {  # of the config's model -> of GGUF, and in which type
    "self_attn.q_proj": ("attn_q", Type.Q8_0),
    "self_attn.k_proj": ("attn_k", Type.Q4_0),
    "self_attn.v_proj": ("attn_v", Type.Q6_K),
    "self_attn.o_proj": ("attn_output", Type.Q4_K),
    "mlp.gate_proj": ("ffn_gate", Type.Q4_K),
    "mlp.up_proj": ("ffn_up", Type.F16),
    "mlp.down_proj": ("ffn_down", Type.BF16),
    "input_layernorm": ("attn_norm", Type.F32),
    "post_attention_layernorm": ("ffn_norm", Type.F32),
}


def make_gguf(directory: Path, architecture: str = "llama") -> tuple[Path, Path]:
    """A model in GGUF with config.json beside it, and the plain model that it stands for."""
    config = make_config(**SIZES)
    model = directory / "gguf"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(config))
    writer = GGUFWriter(model / "tiny.gguf", architecture)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", ""])
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.0])
    plain = {}
    for name, tensor in make_tensors(config).items():
        own, kind = {"model.embed_tokens.weight": ("token_embd", Type.Q8_0)}.get(name, ("output_norm", Type.F32))
        heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2], 0) if architecture == "llama" else 0
        if ".layers." in name:
            _, _, layer, module = name.removesuffix(".weight").split(".", 3)
            own, kind = f"blk.{layer}.{NAMES[module][0]}", NAMES[module][1]
        data = quantised((paired(tensor, heads) if heads else tensor).numpy(), kind)
        writer.add_tensor(f"{own}.weight", data, raw_dtype=kind)
        plain[name] = torch.from_numpy(quants.dequantize(data, kind).astype(np.float32))
        if heads:
            order = paired(torch.arange(tensor.shape[0]).unsqueeze(1), heads).flatten()
            plain[name] = plain[name][order.argsort()]
    finish(writer)
    return model, save_model(directory / "plain", plain, **SIZES)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_model_in_gguf_is_the_model_that_it_stands_for(tmp_path: Path, architecture: str) -> None:
    check_twins(*make_gguf(tmp_path, architecture))


@pytest.mark.parametrize("number", TYPES)
def test_any_blocks_are_read_as_the_package_reads_them(tmp_path: Path, number: int) -> None:
    kind = Type(number)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    assert TYPES[number] == (kind.name, block, size)
    data = np.random.default_rng(7).integers(0, 256, (6, 512 // block * size), dtype=np.uint8)
    writer = GGUFWriter(tmp_path / "one.gguf", "qwen2")
    writer.add_tensor("output.weight", data, raw_dtype=kind)
    finish(writer)
    ours = StoredTensors.open(tmp_path).tensor("lm_head.weight", (6, 512))
    with np.errstate(all="ignore"):
        theirs = quants.dequantize(data.view({Type.F16: np.float16, Type.F32: np.float32}.get(kind, np.uint8)), kind)
    assert torch.equal(ours.float().nan_to_num(1e9), torch.from_numpy(theirs.astype(np.float32)).nan_to_num(1e9))


@pytest.mark.parametrize("kind", [Type.Q8_0, Type.Q4_0, Type.Q4_K, Type.Q6_K, Type.F16])
def test_rows_of_a_table_are_read_alone(tmp_path: Path, kind: Type) -> None:
    data = quantised(np.random.default_rng(3).standard_normal((300, 512)).astype(np.float32), kind)
    writer = GGUFWriter(tmp_path / "one.gguf", "qwen2")
    writer.add_tensor("token_embd.weight", data, raw_dtype=kind)
    finish(writer)
    checkpoint, name = StoredTensors.open(tmp_path), "model.embed_tokens.weight"
    whole = checkpoint.tensor(name, (300, 512))
    tracemalloc.start()
    table = checkpoint.table(name, (300, 512), torch.bfloat16)
    wanted = torch.tensor([299, 0, 7, 7])
    assert torch.equal(table.rows(wanted), whole[wanted])
    assert tracemalloc.get_traced_memory()[1] < 1 << 16
    tracemalloc.stop()
    assert (table.bytes, table.count) == (0, 300)


def test_a_quantised_embedding_stays_in_the_file(tmp_path: Path) -> None:
    model, plain = make_gguf(tmp_path)
    ours, theirs = Head.load(model), Head.load(plain)
    assert ours.weight_bytes == theirs.weight_bytes == ours.logits_bytes + 2 * 256
    assert torch.equal(ours.embed([287, 0, 5], 0), theirs.embed([287, 0, 5], 0))


def test_a_model_in_several_files(tmp_path: Path) -> None:
    for number, (name, value) in enumerate({"output": 1.0, "token_embd": 2.0}.items(), 1):
        writer = GGUFWriter(tmp_path / f"tiny-0000{number}-of-00002.gguf", "qwen2" if number == 1 else "")
        writer.add_tensor(f"{name}.weight", np.full((3, 32), value, dtype=np.float32))
        finish(writer)
    checkpoint = StoredTensors.open(tmp_path)
    assert torch.equal(checkpoint.tensor("lm_head.weight", (3, 32)), torch.ones(3, 32))
    assert torch.equal(checkpoint.tensor("model.embed_tokens.weight", (3, 32)), torch.full((3, 32), 2.0))
    with pytest.raises(ModelFault, match=r"tiny-00002-of-00002\.gguf: tensor token_embd\.weight: shape \[3, 32\]"):
        checkpoint.tensor("model.embed_tokens.weight", (32, 3))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(tmp_path_factory.mktemp("model"))[0]


def header_bytes(content: bytes) -> int:
    """Where the data begins: at the first tensor of the file."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "x.gguf").write_bytes(content)
        return min(entry.begin for entry in open_gguf(Path(directory) / "x.gguf")[0].entries.values())


def outcome(content: bytes) -> str | None:
    """The refusal, or None; whatever the file holds lies within it, and no memory is taken that it does not bear out."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.gguf"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            file, _ = open_gguf(path)
        except ModelFault as fault:
            file, refusal = None, str(fault)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peak < (1 << 20) + 2 * len(content)  # a damaged length may make one text of all that the file has
    if file is None:
        assert str(path) in refusal
        return refusal
    assert all(0 < entry.begin <= entry.end <= len(content) for entry in file.entries.values())
    return None


@settings(max_examples=100, deadline=None)
@given(where=st.integers(0, 1 << 16), value=st.integers(0, 255))
def test_one_byte_of_the_header_changed(model: Path, where: int, value: int) -> None:
    content = bytearray((model / "tiny.gguf").read_bytes())
    content[where % header_bytes(bytes(content))] = value
    outcome(bytes(content))


@settings(max_examples=60, deadline=None)
@given(kept=st.integers(0, 1 << 20), share=st.booleans())
def test_cut_short_anywhere(model: Path, kept: int, share: bool) -> None:
    content = (model / "tiny.gguf").read_bytes()
    assert outcome(content[: kept % (header_bytes(content) if share else len(content) - 32)]) is not None


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1 << 64).map(lambda n: n % (1 << 64)), st.integers(0, 3))
def test_any_header(raw: bytes, keys: int, tensors: int) -> None:
    outcome(b"GGUF" + (3).to_bytes(4, "little") + tensors.to_bytes(8, "little") + keys.to_bytes(8, "little") + raw)


def written(*infos: tuple[str, list[int], int, int], data: int = 64) -> bytes:
    """A file without keys whose tensors are of these names, sizes, types and offsets."""
    content = b"GGUF" + b"".join(n.to_bytes(size, "little") for n, size in ((3, 4), (len(infos), 8), (0, 8)))
    for name, sizes, kind, offset in infos:
        content += len(name).to_bytes(8, "little") + name.encode() + len(sizes).to_bytes(4, "little")
        content += b"".join(size.to_bytes(8, "little") for size in sizes)
        content += kind.to_bytes(4, "little") + offset.to_bytes(8, "little")
    return content + bytes(-len(content) % 32 + data)


LIES = [
    ([("a", [8], 0, 0), ("b", [8], 0, 0)], "tensor b overlaps tensor a|tensor a overlaps tensor b"),
    ([("a", [1 << 62, 1 << 62], 0, 0)], "tensor a: ends at byte .* truncated"),
    ([("a", [8], 0, 1 << 63)], "tensor a: ends at byte .* truncated"),
    ([("a", [8], 0, 4)], "tensor a: offset 4 is not a multiple of the alignment 32"),
    ([("a", [33], 8, 0)], "tensor a: sizes .33. are not whole blocks of 32"),
    ([("a", [8], 16, 0)], "tensor a: GGUF type IQ2_XXS is not read; take the model in one of: F32"),
    ([("a", [8], 99, 0)], "tensor a: GGUF type 99 is not read; take the model in one of: F32"),
    ([("a", [1] * 5, 0, 0)], "tensor a: 5 dimensions"),
    ([("a", [8], 0, 0), ("a", [8], 0, 32)], "tensor a: stands in the header twice"),
]


@pytest.mark.parametrize(("infos", "message"), LIES)
def test_entries_that_lie(tmp_path: Path, infos: list[tuple[str, list[int], int, int]], message: str) -> None:
    (tmp_path / "x.gguf").write_bytes(written(*infos))
    with pytest.raises(ModelFault, match=rf"x\.gguf: ({message})"):
        open_gguf(tmp_path / "x.gguf")
    (tmp_path / "x.gguf").write_bytes(written(("a", [8], 0, 0), ("b", [8], 0, 32)))
    assert set(open_gguf(tmp_path / "x.gguf")[0].entries) == {"a", "b"}


def test_two_whole_models_in_one_directory_and_an_architecture_that_is_not_read(tmp_path: Path) -> None:
    model, _ = make_gguf(tmp_path)
    content = (model / "tiny.gguf").read_bytes()
    (model / "other.gguf").write_bytes(content)
    with pytest.raises(ModelFault, match=r"tiny\.gguf: tensor .*: other\.gguf holds it too"):
        StoredTensors.open(model)
    (model / "other.gguf").unlink()
    (model / "tiny.gguf").write_bytes(content.replace(b"llama", b"mamba"))
    with pytest.raises(ModelFault, match=r"general\.architecture: 'mamba' is not read from GGUF; known: llama"):
        Stage.load(model)
    (model / "tiny.gguf").write_bytes(content.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"))
    with pytest.raises(ModelFault, match=r"tensor blk\.1\.ffn_xx\.weight: LlamaForCausalLM has no use for it"):
        Stage.load(model)
