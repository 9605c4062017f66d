"""Portable numerics over every family: a row's bits depend on its own history alone, and are native's within fp32's rounding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.families import CONFIGS
from support.families_encoders import CONFIGS as ENCODERS
from support.oracles import difference
from torch import Tensor

import swarm.demo
from swarm.engine import Head, Stage, footprint
from swarm.errors import UsageFault
from swarm.kernels import library
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

DEMO = Path(swarm.demo.__file__).parent / "model"
PROMPT = 45
ERRORS = {"fp16": 0.02, "int8": 0.06, "int4": 0.6}  # random weights are the worst there are to round
PLAIN_ROWS = 6  # what plain C is asked for: it is slow
DECODERS = {name: ModelSpec.from_config(config) for name, config in CONFIGS.items()}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    kernels = library()
    assert kernels is not None
    path, threads = kernels.path, kernels.threads
    yield
    kernels.choose(path)
    kernels.set_threads(threads)


def ids_of(spec: ModelSpec, count: int) -> list[int]:
    return torch.randint(0, min(256, spec.vocab), (count,), generator=torch.Generator().manual_seed(7)).tolist()


def loaded(spec: ModelSpec, precision: str, numerics: str = "portable") -> tuple[Stage, Head]:
    stage = Stage.random(spec, spec.span, precision, numerics=numerics)
    return stage, Head.random(spec, precision, seed=1, numerics=numerics)


def in_pieces(stage: Stage, rows: Tensor) -> Tensor:
    """A prompt in uneven chunks, rows one by one and a replay of several, with another session in between."""
    cache, other = stage.open(rows.shape[0]), stage.open(rows.shape[0])
    stage.chunk(other, rows[5:9])
    done = [stage.chunk(cache, rows[:7])]
    for at in range(7, 10):
        mine, _ = stage.decode([(cache, rows[at : at + 1]), (other, rows[at + 1 : at + 3])])
        done.append(mine)
    done += [stage.decode([(cache, rows[10:31])])[0], stage.chunk(cache, rows[31:])]
    return torch.cat(done)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", DECODERS)
def test_pieces_company_and_cuts_change_no_bit(name: str, precision: str) -> None:
    spec = DECODERS[name]
    stage, head = loaded(spec, precision)
    rows = head.embed(ids_of(spec, PROMPT), 0)
    whole = stage.chunk(stage.open(PROMPT), rows)
    assert torch.equal(in_pieces(stage, rows), whole)
    bounds = [layer for layer in range(1, spec.layer_count) if not any(b.start < layer < b.stop for b in spec.bonds)]
    for boundary in bounds[:2]:
        passed = rows
        for span in (LayerSpan(0, boundary), LayerSpan(boundary, spec.layer_count)):
            part = Stage.random(spec, span, precision, numerics="portable")
            passed = part.chunk(part.open(PROMPT), passed)
        assert torch.equal(passed, whole)
    logits = head.logits(whole)
    assert torch.equal(torch.cat([head.logits(row) for row in torch.split(whole, 1)]), logits)


@pytest.mark.parametrize("name", DECODERS)
def test_it_is_the_same_model(name: str) -> None:
    spec = DECODERS[name]
    (ours, head), (theirs, their_head) = loaded(spec, "fp32"), loaded(spec, "fp32", "native")
    ids = ids_of(spec, PROMPT)
    logits = head.logits(ours.chunk(ours.open(PROMPT), head.embed(ids, 0)))
    expected = their_head.logits(theirs.chunk(theirs.open(PROMPT), their_head.embed(ids, 0)))
    assert difference(logits, expected) < 1e-5


@pytest.mark.parametrize("name", DECODERS)
def test_instructions_and_threads_change_no_bit(name: str) -> None:
    spec, kernels = DECODERS[name], library()
    assert kernels is not None
    seen: list[Tensor] = []
    for path in kernels.paths():
        kernels.choose(path)
        for threads in (1, 3):
            kernels.set_threads(threads)
            stage, head = loaded(spec, "bf16")
            count = PLAIN_ROWS if path == "plain" else PROMPT
            rows = stage.chunk(stage.open(count), head.embed(ids_of(spec, PROMPT)[:count], 0))
            seen.append(head.logits(rows)[:PLAIN_ROWS])
    assert all(torch.equal(each, seen[0]) for each in seen[1:])


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("name", ["qwen3", "gemma2", "qwen3-moe", "gpt-oss", "falcon", "qwen3-5-odd"])
def test_integer_weights(name: str, precision: str) -> None:
    spec, kernels = DECODERS[name], library()
    assert kernels is not None
    seen: list[Tensor] = []
    for path in kernels.paths()[:2]:
        kernels.choose(path)
        stage, head = loaded(spec, precision)
        rows = head.embed(ids_of(spec, PROMPT), 0)
        whole = stage.chunk(stage.open(PROMPT), rows)
        assert torch.equal(in_pieces(stage, rows), whole)
        seen.append(head.logits(whole))
    assert all(torch.equal(each, seen[0]) for each in seen)
    exact, its_head = loaded(spec, "fp32")
    expected = its_head.logits(exact.chunk(exact.open(PROMPT), its_head.embed(ids_of(spec, PROMPT), 0)))
    error = (seen[0] - expected).norm() / expected.norm()
    assert error < ERRORS[precision]
    needed = footprint(spec, spec.span, precision)
    assert 0.7 * needed <= stage.weight_bytes


def test_the_bits_of_a_small_model_in_integers() -> None:
    """What a worker holds of the demo model: by how much less than in bf16, and how often it chooses the same token."""
    ids = torch.randint(0, 4096, (200,), generator=torch.Generator().manual_seed(3)).tolist()
    chosen, taken = {}, {}
    for precision in ("bf16", "fp16", "int8", "int4"):
        stage, head = (
            Stage.load(DEMO, precision=precision, numerics="portable"),
            Head.load(DEMO, precision=precision, numerics="portable"),
        )
        cache, rows = stage.open(200), head.embed(ids, 0)
        passed = torch.cat([stage.chunk(cache, rows[:128]), stage.chunk(cache, rows[128:])])
        chosen[precision], taken[precision] = head.logits(passed).argmax(-1), stage.weight_bytes
    assert taken["fp16"] == taken["bf16"]
    assert taken["int8"] < 0.56 * taken["bf16"]
    assert taken["int4"] < 0.31 * taken["bf16"]
    assert (chosen["int8"] == chosen["bf16"]).float().mean() > 0.9
    assert (chosen["int4"] == chosen["bf16"]).float().mean() > 0.6


def test_integers_are_refused_natively() -> None:
    with pytest.raises(UsageFault, match="--precision int4: only --numerics portable"):
        loaded(DECODERS["qwen3"], "int4", "native")


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders(name: str) -> None:
    spec, kernels = ModelSpec.from_config(ENCODERS[name]), library()
    assert kernels is not None
    ids, seen = ids_of(spec, PROMPT), []
    for path in kernels.paths():
        kernels.choose(path)
        stage, head = loaded(spec, "fp32")
        seen.append(head.features(stage.chunk(stage.open(PROMPT), head.embed(ids, 0))))
    stage, head = loaded(spec, "fp32", "native")
    expected = head.features(stage.chunk(stage.open(PROMPT), head.embed(ids, 0)))
    assert all(torch.equal(each, seen[0]) for each in seen[1:])
    assert difference(seen[0], expected) < 1e-5
