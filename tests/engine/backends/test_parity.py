"""Layers of the transformers library behind our interfaces against the library's own forward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.library import CONFIGS, make_library_model
from support.models import make_model
from support.oracles import difference, generate, oracle_of
from support.quantised import Parts, make_twins
from torch import Tensor

from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import CHUNK_ROWS
from swarm.engine.backends import open_model
from swarm.span import LayerSpan

PROMPT = [(11 * index) % 250 for index in range(CHUNK_ROWS + 22)]
THOROUGH = ("stablelm", "starcoder2")


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_greedy_tokens_and_every_cut(tmp_path: Path, name: str) -> None:
    steps = 200 if name in THOROUGH else 12
    directory = make_library_model(tmp_path, name)
    model, oracle = open_model(directory, "transformers"), oracle_of(directory)
    whole, head = model.load_stage(precision="fp32"), model.load_head("fp32")
    tokens, logits = generate([whole], head, PROMPT, steps)
    with torch.inference_mode():
        # Teacher-forced on our tokens: had one of theirs been another, the argmax of their logits would say so
        theirs = oracle(torch.tensor([PROMPT + tokens[:-1]])).logits[0]
    assert difference(logits, theirs) < 1e-5
    assert theirs[len(PROMPT) - 1 :].argmax(-1).tolist() == tokens
    for cut in range(1, model.spec.layer_count):
        spans = LayerSpan(0, cut), LayerSpan(cut, model.spec.layer_count)
        parts = [model.load_stage(span, precision="fp32") for span in spans]
        again, split_logits = generate(parts, head, PROMPT, 8)
        assert again == tokens[:8]
        assert torch.equal(split_logits, logits[: len(split_logits)])


def test_a_known_family_as_our_own_engine_computes_it(tmp_path: Path) -> None:
    directory = make_model(tmp_path, tie_word_embeddings=False, attention_bias=True)
    ours, theirs = open_model(directory), open_model(directory, "transformers")
    results = [
        generate([model.load_stage(precision="fp32")], model.load_head("fp32"), PROMPT, 30) for model in (ours, theirs)
    ]
    assert results[0][0] == results[1][0]
    assert difference(results[0][1], results[1][1]) < 1e-5
    assert ours.manifest().digest == theirs.manifest().digest
    assert (ours.spec.layer_count, ours.spec.hidden, ours.spec.vocab, ours.spec.max_positions) == (
        (theirs.spec.layer_count, theirs.spec.hidden, theirs.spec.vocab, theirs.spec.max_positions)
    )
    features = [model.load_head("fp32").features(torch.ones(2, 64)) for model in (ours, theirs)]
    assert difference(features[0], features[1]) < 1e-5


def test_weights_in_several_files_and_in_half_precision(tmp_path: Path) -> None:
    one = open_model(make_model(tmp_path / "one", dtype="bf16"), "transformers")
    more = open_model(make_model(tmp_path / "more", dtype="bf16", shards=3), "transformers")
    results = [generate([model.load_stage()], model.load_head(), PROMPT, 5) for model in (one, more)]
    assert torch.equal(results[0][1], results[1][1])


def test_frequencies_that_follow_the_longest_call_end_the_context(tmp_path: Path) -> None:
    """They would make one session's rows depend on how far another got."""
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    model = open_model(
        make_model(tmp_path, max_position_embeddings=96, rope_theta=None, rope_parameters=rope), "transformers"
    )
    assert model.spec.max_positions == 96
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "original_max_position_embeddings": 64}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, **factors}
    directory = make_model(tmp_path / "long", max_position_embeddings=256, rope_theta=None, rope_parameters=rope)
    assert open_model(directory, "transformers").spec.max_positions == 64


def test_names_without_the_base_model_s_prefix(tmp_path: Path) -> None:
    directory = make_library_model(tmp_path, "starcoder2")
    results = []
    for _ in range(2):
        model = open_model(directory, "transformers")
        results.append(generate([model.load_stage()], model.load_head(), PROMPT, 3)[1])
        path = directory / "model.safetensors"
        shorter = {name.removeprefix("model."): tensor for name, tensor in load_file(path).items()}
        save_file(shorter, path, metadata={"format": "pt"})
    assert torch.equal(*results)


def test_quantised_weights(tmp_path: Path) -> None:
    """Whose tensors have other names, and may come out with their columns first: their bits are those of plain ones."""
    awq = {"quant_method": "awq", "bits": 4, "group_size": -1, "zero_point": True, "version": "gemm"}

    def drawn(weight: Tensor) -> tuple[Parts, Tensor]:  # any words will do
        outputs, inputs = weight.shape
        words = torch.randint(-(2**31), 2**31, (inputs + 1, outputs // 8)).int()
        scales = torch.full((1, outputs), 0.3 / inputs).half()
        return {"qweight": words[1:], "qzeros": words[:1], "scales": scales}, weight

    quantised, plain = make_twins(tmp_path / "twins", drawn, awq)
    stored = StoredTensors.open(quantised)
    shapes = {name: tensor.shape for name, tensor in load_file(plain / "model.safetensors").items()}
    tensors = {name: stored.tensor(name, tuple(shape)).contiguous() for name, shape in shapes.items()}
    save_file(tensors, plain / "model.safetensors", metadata={"format": "pt"})
    models = [open_model(directory, "transformers") for directory in (quantised, plain)]
    for precision in ("fp32", "bf16"):
        results = [generate([m.load_stage(precision=precision)], m.load_head(precision), PROMPT, 3)[1] for m in models]
        assert torch.equal(*results)
