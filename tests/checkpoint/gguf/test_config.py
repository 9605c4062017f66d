"""Models whose config is their GGUF file's: every architecture against the model it was made from and against transformers."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter, quants
from gguf import GGUFValueType as ValueType
from support.families import CONFIGS
from support.gguf import ARCHITECTURES, finish, to_gguf
from support.oracles import difference, make_oracle_model
from torch import Tensor

from swarm.checkpoint.config import read_config, read_spec
from swarm.checkpoint.gguf.dialects import DIALECTS
from swarm.checkpoint.gguf.file import Array, open_gguf
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import Head, Stage
from swarm.errors import ModelFault
from swarm.model.spec import ModelSpec
from swarm.model.tensor_names import layer_tensors

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LLAMA = {key: value for key, value in CONFIGS["rope-linear"].items() if key != "rope_scaling"}
PATTERNED = {"sliding_window_pattern": 2, "query_pre_attn_scalar": 16}
CASES: dict[str, dict[str, Any]] = {  # what GGUF has no key for stands as files take it for granted
    "llama": {**LLAMA, "attention_bias": True, "mlp_bias": True},
    "llama3": {**CONFIGS["rope-linear"], "rope_theta": 5e5, "rope_scaling": LLAMA3},
    **{name: CONFIGS[name] for name in ("rope-linear", "rope-yarn", "rope-yarn-stated")},
    "mistral": CONFIGS["mistral-no-window"],
    **{name: CONFIGS[name] for name in ("qwen2", "qwen2-odd", "qwen3", "qwen3-odd", "granite", "granite-odd")},
    **{name: CONFIGS[name] for name in ("olmo2", "olmo2-odd", "phi3", "phi3-odd", "phi3-long", "glm4", "glm4-odd")},
    "qwen3-5": {**CONFIGS["qwen3-5"], "linear_num_value_heads": 6},
    "qwen3-5-moe": CONFIGS["qwen3-5-moe"],
    "gpt-oss": CONFIGS["gpt-oss"],
    "gpt-oss-no-window": {**CONFIGS["gpt-oss-no-window"], "sliding_window": None, "layer_types": None},
    "gemma2": {**CONFIGS["gemma2"], "query_pre_attn_scalar": 16},
    "gemma2-odd": {**CONFIGS["gemma2-odd"], "query_pre_attn_scalar": 20},
    "gemma3": {**CONFIGS["gemma3"], "query_pre_attn_scalar": 16},
    "gemma3-odd": {**CONFIGS["gemma3-odd"], **PATTERNED},
    "mixtral": {**CONFIGS["mixtral"], "sliding_window": None},
    "mixtral-odd": CONFIGS["mixtral-odd"],
    "qwen3-moe": {**CONFIGS["qwen3-moe"], "mlp_only_layers": []},
    "qwen3-moe-odd": {**CONFIGS["qwen3-moe-odd"], "decoder_sparse_step": 1, "norm_topk_prob": True},
}
TOKENS = {"tokenizer.ggml.tokens": 288}  # as the oracle's reader counts them; these files hold none
READ_BY_THE_ORACLE = (
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "vocab_size",
    "rms_norm_eps",
    "tie_word_embeddings",
    "bos_token_id",
)
NEARLY = (
    "qwen3-5",
    "qwen3-5-moe",
    "llama3",
    "gemma2",
    "gemma2-odd",
    "gemma3",
    "gemma3-odd",
)  # where what a file holds is computed from the weights


@pytest.fixture(scope="module", params=CASES)
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    directory = tmp_path_factory.mktemp("gguf")
    model = make_oracle_model(directory / "model", CASES[request.param], seed=list(CASES).index(request.param))
    return request.param, model, to_gguf(model, directory / "gguf" / "tiny.gguf")


def logits(model: Path, rows: int = 150) -> Tensor:
    stage, head = Stage.load(model, precision="fp32"), Head.load(model, precision="fp32")
    cache, answers = stage.open(rows + 1), []
    ids = torch.randint(0, 256, (rows + 1,), generator=torch.Generator().manual_seed(1)).tolist()
    for start in range(0, rows, 128):
        chunk = ids[start : min(start + 128, rows)]
        answers.append(head.logits(stage.chunk(cache, head.embed(chunk, start))))
    answers.append(head.logits(stage.decode([(cache, head.embed(ids[-1:], rows))])[0]))
    return torch.cat(answers)


def test_a_model_is_what_it_was_made_from(twins: tuple[str, Path, Path]) -> None:
    name, model, path = twins
    ours, theirs = logits(path), logits(model)
    if name in NEARLY:
        assert difference(ours, theirs) < 1e-5
    else:
        assert torch.equal(ours, theirs)


def gguf_oracle(path: Path, config: Any) -> Any:
    """What transformers makes of the file's tensors."""
    from transformers import AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    model = AutoModelForCausalLM.from_config(config).eval()
    left = model.load_state_dict(load_gguf_checkpoint(path, True, model)["tensors"], strict=False)
    assert not left.unexpected_keys
    assert set(left.missing_keys) <= {"lm_head.weight"}
    model.tie_weights()
    return model


def test_its_spec_is_that_of_config_json(twins: tuple[str, Path, Path]) -> None:
    name, model, path = twins
    ours, theirs = read_spec(path), read_spec(model)
    for field in fields(ModelSpec):
        if (name, field.name) not in (("llama3", "ropes"), ("mistral", "family"), ("phi3-long", "ropes")):
            assert getattr(ours, field.name) == getattr(theirs, field.name), field.name


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "qwen3-moe", "gemma2", "gemma3", "phi3"])
def test_the_oracle_reads_the_same_of_a_file(tmp_path: Path, name: str) -> None:
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    model = make_oracle_model(tmp_path / "model", CASES[name])
    kinds = {True: Type.F16, False: Type.F32}
    path = to_gguf(model, tmp_path / "gguf" / "tiny.gguf", kinds=lambda _, tensor: kinds[tensor.dim() > 1])
    theirs = gguf_oracle(path, AutoConfig.from_pretrained(model))
    stage, head = Stage.load(path, precision="fp32"), Head.load(path, precision="fp32")
    ids = torch.randint(0, 256, (100,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(ids[None]).logits[0]
    ours = head.logits(stage.chunk(stage.open(100), head.embed(ids.tolist(), 0)))
    assert difference(ours, expected) < 1e-5
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name).to_dict()
    for field, value in read_config(path).items():
        if field in READ_BY_THE_ORACLE:
            assert config[field] == pytest.approx(value), field


@pytest.mark.parametrize("name", ["qwen3-5", "qwen3-5-moe"])
def test_the_oracle_puts_value_heads_where_we_do(tmp_path: Path, name: str) -> None:
    from transformers import AutoConfig
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
    from transformers.integrations.gguf.gguf_config_mapping import get_gguf_config
    from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS
    from transformers.integrations.gguf.reader import read_gguf_metadata

    model = make_oracle_model(tmp_path / "model", CASES[name])
    path = to_gguf(model, tmp_path / "tiny.gguf")
    mapping = GGUF_ARCHS[ARCHITECTURES[CASES[name]["architectures"][0]]](AutoConfig.from_pretrained(model))
    renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
    converters = [each for each in mapping if isinstance(each, WeightConverter)]
    checkpoint, spec, file = StoredTensors.open(path), read_spec(path), open_gguf(path)[0]
    wanted = {name: shape for layer in spec.span for name, shape in layer_tensors(spec, layer).items()}
    compared = 0
    for stored, entry in file.entries.items():
        target, pattern = rename_source_key(stored, renamings, converters)
        if target in wanted:
            tensor = torch.frombuffer(bytearray(file.view(stored)), dtype=torch.float32).view(entry.shape)
            for operation in next((each.operations for each in converters if pattern in each.source_patterns), []):
                (tensor,) = operation.convert({stored: tensor}, [stored], [target]).values()
            ours = checkpoint.tensor(target, wanted[target])
            assert torch.allclose(ours.reshape(tensor.shape), tensor, atol=1e-6), target
            compared += 1
    assert compared > 30
    metadata, names = read_gguf_metadata(str(path), ())
    theirs = {key: value for key, value in get_gguf_config(metadata | TOKENS, names).items() if value is not None}
    theirs |= theirs.pop("rope_parameters")
    ours = read_config(path)
    for key in theirs.keys() & ours.keys() - {"eos_token_id"}:
        assert theirs[key] == pytest.approx(ours[key]) if isinstance(ours[key], float) else theirs[key] == ours[key], (
            key
        )


def test_layers_that_guess_further_tokens_are_left_out(tmp_path: Path) -> None:
    model = make_oracle_model(tmp_path / "model", CASES["qwen3-5"])
    path, more = to_gguf(model, tmp_path / "tiny.gguf"), tmp_path / "more.gguf"
    file, keys = open_gguf(path)
    writer = GGUFWriter(more, "qwen35")
    for key, value in {**keys, "qwen35.block_count": 4, "qwen35.nextn_predict_layers": 1}.items():
        if isinstance(value, Array):
            writer.add_array(key, value.numbers().tolist())
        elif key != "general.architecture":
            writer.add_key_value(key, value, ValueType.UINT32 if type(value) is int else ValueType.FLOAT32)
    for name, entry in file.entries.items():
        writer.add_tensor(name, np.frombuffer(file.view(name), np.float32).reshape(entry.shape))
    writer.add_tensor("blk.3.nextn.eh_proj.weight", np.zeros((64, 128), np.float32))
    finish(writer)
    assert read_spec(more) == read_spec(path)
    (tmp_path / "config.json").write_text(json.dumps(CASES["qwen3-5"] | {"linear_value_head_dim": 47}))
    with pytest.raises(ModelFault, match=r"tensor blk\.0\.\w+\.weight: shape"):
        Stage.load(path)
    (tmp_path / "config.json").unlink()
    assert torch.equal(logits(more, 20), logits(path, 20))


def test_a_config_beside_may_nest_the_text_model(tmp_path: Path) -> None:
    model = make_oracle_model(tmp_path / "model", CASES["gemma3"])
    path = to_gguf(model, tmp_path / "gguf" / "tiny.gguf")
    alone = logits(path, 20)
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}
    (path.parent / "config.json").write_text(json.dumps({**outer, "text_config": CASES["gemma3"]}))
    assert read_spec(path).architecture == "Gemma3ForConditionalGeneration"
    assert torch.equal(logits(path, 20), alone)


@pytest.mark.parametrize("kind", [Type.MXFP4, Type.Q8_0, Type.F16])
def test_experts_are_slices_of_their_stack(tmp_path: Path, kind: Type) -> None:
    model = make_oracle_model(tmp_path / "model", CASES["gpt-oss"])
    path = to_gguf(model, tmp_path / "tiny.gguf", kinds=lambda name, _: kind if "_exps.weight" in name else Type.F32)
    checkpoint = StoredTensors.open(path)
    stack = next(each for each in GGUFReader(path).tensors if each.name == "blk.1.ffn_down_exps.weight")
    whole = torch.from_numpy(quants.dequantize(stack.data, kind).astype(np.float32))
    for expert in range(5):
        name = f"model.layers.1.mlp.experts.{expert}.down_proj.weight"
        assert torch.equal(checkpoint.tensor(name, (64, 160)).float(), whole[expert])
    with pytest.raises(ModelFault, match=r"blk\.1\.ffn_down_exps\.weight: expert 5 is wanted, but the file counts 5"):
        checkpoint.tensor("model.layers.1.mlp.experts.5.down_proj.weight", (64, 160))
    assert Stage.load(path).spec.architecture == "GptOssForCausalLM"


def test_every_dialect_is_tested() -> None:
    assert {ARCHITECTURES[config["architectures"][0]] for config in CASES.values()} == set(DIALECTS)
