"""transformers as the oracle of our logits, and tiny models of each family whose weights it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swarm.engine import CHUNK_ROWS, Head, Stage
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan, held_in_part

TINY: dict[str, Any] = {
    "vocab_size": 288,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}


def make_oracle_model(directory: Path, config: dict[str, Any], seed: int = 0) -> Path:
    """Random weights by the names under which transformers saves them, and config.json as it was given."""
    from transformers import AutoConfig, AutoModelForCausalLM

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # some families draw what is no matrix, too
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("A_log"):
                # States that last for rows: an answer of one row alone may be so small that its norm shows only rounding
                weight.copy_(noise - 2)
            elif weight.dim() == 1:
                weight.add_(0.1 * noise)
            else:
                weight.copy_(noise if "embed" in name else noise * weight.shape[-1] ** -0.5)
        for name in model.state_dict().keys() - dict(model.named_parameters()).keys():
            if name.endswith("layer_scalar"):  # saved and loaded as weights are
                model.get_buffer(name).mul_(1.25)
    model.save_pretrained(directory)
    (directory / "newer.json").write_bytes((directory / "config.json").read_bytes())
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def oracle_of(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def generate(stages: list[Stage], head: Head, prompt: list[int], steps: int) -> tuple[list[int], Tensor]:
    """Greedy tokens, and the logits of every row on the way."""
    caches = [stage.open(len(prompt) + steps) for stage in stages]
    logits = []
    for start in range(0, len(prompt), CHUNK_ROWS):
        rows = head.embed(prompt[start : start + CHUNK_ROWS], start)
        for stage, cache in zip(stages, caches, strict=True):
            rows = stage.chunk(cache, rows)
        logits.append(head.logits(rows))
    tokens = [int(logits[-1][-1].argmax())]
    while len(tokens) < steps:
        rows = head.embed(tokens[-1:], len(prompt) + len(tokens) - 1)
        for stage, cache in zip(stages, caches, strict=True):
            (rows,) = stage.decode([(cache, rows)])
        logits.append(head.logits(rows))
        tokens.append(int(logits[-1][-1].argmax()))
    return tokens, torch.cat(logits)


def cuts_of(spec: ModelSpec) -> list[int]:
    """Layers before which the model can be cut."""
    return [cut for cut in range(1, spec.layer_count) if held_in_part(LayerSpan(0, cut), spec.bonds) is None]


def check(directory: Path, prompt: list[int], steps: int, tolerance: float, numerics: str = "native") -> None:
    oracle = oracle_of(directory)
    whole = Stage.load(directory, precision="fp32", numerics=numerics)
    head = Head.load(directory, precision="fp32", numerics=numerics)
    tokens, logits = generate([whole], head, prompt, steps)
    with torch.inference_mode():
        # Teacher-forced on our tokens: had one of theirs been another, the argmax of their logits would say so
        theirs = oracle(torch.tensor([prompt + tokens[:-1]])).logits[0]
    assert difference(logits, theirs) < tolerance
    assert theirs[len(prompt) - 1 :].argmax(-1).tolist() == tokens
    for cut in cuts_of(whole.spec):
        spans = LayerSpan(0, cut), LayerSpan(cut, whole.spec.layer_count)
        parts = [Stage.load(directory, span, precision="fp32", numerics=numerics) for span in spans]
        fewer = min(steps, 12)
        again, split_logits = generate(parts, head, prompt, fewer)
        assert again == tokens[:fewer]
        assert torch.equal(split_logits, logits[: len(split_logits)])
