"""Programs on a device, by Triton's interpreter: rows have the bits that the compiled kernels give them, cut otherwise and in
other company."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import support.interpreted  # noqa: F401
import torch
from support.families import CONFIGS
from support.families_encoders import CONFIGS as ENCODERS
from torch import Tensor

from swarm.engine import Head, Stage, decoder
from swarm.engine import head as head_module
from swarm.engine.portable.linear import PortableLinear
from swarm.engine.portable.program import Program
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

BLOCK, ROWS, HERE = 128, 3, torch.device("cpu")
CASES = [  # one of each kind of layer, and of each kind of weight and cache somewhere
    ("qwen3", "bf16"),
    ("gemma2", "int8+activations-int16+cache-int8"),
    ("gpt-oss", "int4"),
    ("bloom", "fp16"),
    ("gemma4-tokens", "0=int8,1-2=bf16"),
    ("qwen3-next-odd", "fp32"),
]


def staged(config: dict[str, object], precision: str) -> tuple[Stage, Tensor]:
    """The first layers, and rows that enter them."""
    spec = ModelSpec.from_config(config)
    stage = Stage.random(spec, LayerSpan(0, 2), precision, numerics="portable")
    ids = torch.randint(0, min(256, spec.vocab), (ROWS,), generator=torch.Generator().manual_seed(7)).tolist()
    return stage, Head.random(spec, precision, seed=1, numerics="portable").embed(ids, 0)


def move(stage: Stage) -> None:
    program = stage.decoder.program
    assert isinstance(program, Program)
    stage.decoder.program = decoder.on_device(program, HERE)


def through(stage: Stage, span: LayerSpan, rows: Tensor) -> Tensor:
    """A prompt but for its last row, then that one beside another session's first."""
    with closing(stage.open(ROWS, span)) as cache, closing(stage.open(ROWS, span)) as other:
        prompt = stage.chunk(cache, rows[:-1])
        beside, last = stage.decode([(other, rows[:1]), (cache, rows[-1:])])
    assert torch.equal(beside, prompt[:1])
    return torch.cat((prompt, last))


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_rows_of_sessions(name: str, precision: str) -> None:
    stage, rows = staged(CONFIGS[name], precision)
    with closing(stage.open(ROWS)) as cache:
        expected = stage.chunk(cache, rows)
    move(stage)
    with np.errstate(all="ignore"):
        found = through(stage, LayerSpan(1, 2), through(stage, LayerSpan(0, 1), rows))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("precision", ["bf16", "bf16+cache-int8"])
def test_a_cache_that_the_compiled_kernels_filled_goes_on(precision: str) -> None:
    """From one block of attention into the next, in layers with a window and without."""
    stage, rows = staged(CONFIGS["gemma2"], precision)
    before = rows[:1].repeat(BLOCK - 2, 1) * torch.linspace(-1, 1, BLOCK - 2)[:, None]
    before = before.to(rows.dtype)
    with closing(stage.open(BLOCK + ROWS)) as cache:
        stage.chunk(cache, before)
        expected = stage.chunk(cache, rows)
        cache.rollback(BLOCK - 2)
        move(stage)
        with np.errstate(all="ignore"):
            assert torch.equal(stage.chunk(cache, rows), expected)


@pytest.mark.parametrize("name", ["modernbert", "mpnet"])
def test_rows_of_a_text(name: str) -> None:
    stage, rows = staged(ENCODERS[name], "fp32")
    with closing(stage.open(ROWS)) as cache:
        expected = stage.chunk(cache, rows)
    move(stage)
    with np.errstate(all="ignore"), closing(stage.open(ROWS)) as cache:
        assert torch.equal(stage.chunk(cache, rows), expected)


def test_the_layer_that_gives_logits() -> None:
    spec = ModelSpec.from_config(CONFIGS["qwen3"])
    head = Head.random(spec, "int8", seed=1, numerics="portable")
    rows = torch.randn(2, spec.width, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    expected, linear = head.logits(rows), head._linear
    assert isinstance(linear, PortableLinear)
    head._linear = head_module.on_device(linear, HERE)
    assert torch.equal(head.logits(rows), expected)
