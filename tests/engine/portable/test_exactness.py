"""Portable numerics over every family: a row's bits depend on its own history alone, and are native's within fp32's rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies
from support.families import CONFIGS
from support.families_encoders import CONFIGS as ENCODERS
from support.oracles import difference
from torch import Tensor

import swarm.demo
from chaos.computers import Computer, restored
from swarm.engine import Head, Stage, footprint
from swarm.errors import UsageFault
from swarm.kernels import library
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

DEMO = Path(swarm.demo.__file__).parent / "model"
PROMPT = 45
ERRORS = {  # random weights are the worst there are to round
    "fp16": 0.02,
    "int8": 0.05,
    "int4": 0.5,
    "int8+activations-int16": 0.03,
    "bf16+cache-int8": 0.05,
    "fp32+cache-int8": 0.05,
}
RECURRENT_ERRORS = {  # a state carries what was rounded before on to later rows
    **ERRORS,
    "int8": 0.06,
    "int4": 0.6,
    "int8+activations-int16": 0.04,
}
ALL_OF_IT = "int4+activations-int16+cache-int8"
PLAIN_ROWS = 6  # at a time, of plain C
DECODERS = {name: ModelSpec.from_config(config) for name, config in CONFIGS.items()}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Torch has one thread meanwhile: of tensors so small more only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with restored():
        yield
    torch.set_num_threads(threads)


def ids_of(spec: ModelSpec, count: int) -> list[int]:
    return torch.randint(0, min(256, spec.vocab), (count,), generator=torch.Generator().manual_seed(7)).tolist()


def precisions(spec: ModelSpec) -> strategies.SearchStrategy[str]:
    plans = ["fp32", "bf16", *ERRORS, ALL_OF_IT, f"0=bf16,1-{spec.layer_count - 1}=int4+cache-int8"]
    return strategies.sampled_from([plan for plan in plans if not (spec.both_ways and "cache" in plan)])


def loaded(spec: ModelSpec, precision: str, numerics: str = "portable") -> tuple[Stage, Head]:
    stage = Stage.random(spec, spec.span, precision, numerics=numerics)
    return stage, Head.random(spec, precision, seed=1, numerics=numerics)


@dataclass(frozen=True)
class Whole:
    """A prompt in one piece, by one thread and the best instructions here."""

    stage: Stage
    head: Head
    rows: Tensor
    passed: Tensor
    logits: Tensor


@lru_cache(1)
def whole(name: str, precision: str) -> Whole:
    spec = DECODERS[name]
    (stage, head), kernels = loaded(spec, precision), library()
    assert kernels is not None
    Computer(1, kernels.paths()[0]).settle()
    rows = head.embed(ids_of(spec, PROMPT), 0)
    with closing(stage.open(PROMPT)) as cache:
        passed = stage.chunk(cache, rows)
    return Whole(stage, head, rows, passed, head.logits(passed))


@dataclass(frozen=True)
class Piece:
    """So many rows of a prompt, by a computer: as a chunk, or as decode rows with so many of another session's in one call."""

    computer: Computer
    rows: int
    company: int | None


def computers() -> strategies.SearchStrategy[Computer]:
    kernels = library()
    assert kernels is not None
    return strategies.sampled_from([Computer(threads, path) for path in kernels.paths() for threads in range(1, 5)])


@strategies.composite
def pieces(draw: strategies.DrawFn) -> list[Piece]:
    """Of the whole prompt. Plain C is asked for few rows: it is slow."""
    made, left = [], PROMPT
    while left:
        computer = draw(computers())
        rows = draw(strategies.integers(1, min(left, PLAIN_ROWS if computer.path == "plain" else left)))
        made.append(Piece(computer, rows, draw(strategies.sampled_from([None, 0, 1, 3]))))
        left -= rows
    return made


def in_pieces(stage: Stage, span: LayerSpan, rows: Tensor, pieces: list[Piece]) -> Tensor:
    done, at = [], 0
    with closing(stage.open(PROMPT, span)) as cache, closing(stage.open(3 * PROMPT, span)) as other:
        for piece in pieces:
            piece.computer.settle()
            part = rows[at : at + piece.rows]
            if piece.company is None:
                done.append(stage.chunk(cache, part))
            else:
                beside = [(other, rows[: piece.company])] if piece.company else []
                done.append(stage.decode([*beside, (cache, part)])[-1])
            at += piece.rows
    return torch.cat(done)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=strategies.data())
def test_pieces_company_cuts_and_computers_change_no_bit(name: str, data: strategies.DataObject) -> None:
    spec = DECODERS[name]
    expected = whole(name, data.draw(precisions(spec), "precision"))
    cuts = [layer for layer in range(1, spec.layer_count) if not any(b.start < layer < b.stop for b in spec.bonds)]
    at = sorted(data.draw(strategies.sets(strategies.sampled_from(cuts)), "cuts")) if cuts else []
    rows = expected.rows
    for start, stop in pairwise([0, *at, spec.layer_count]):
        rows = in_pieces(expected.stage, LayerSpan(start, stop), rows, data.draw(pieces(), f"layers {start} to {stop}"))
    assert torch.equal(rows, expected.passed)
    data.draw(computers(), "of the head").settle()
    count = data.draw(strategies.integers(1, PLAIN_ROWS), "rows of the head")
    assert torch.equal(torch.cat([expected.head.logits(each) for each in torch.split(rows, count)]), expected.logits)


@pytest.mark.parametrize("name", DECODERS)
def test_layers_that_are_loaded_by_themselves_compute_the_same(name: str) -> None:
    spec, expected = DECODERS[name], whole(name, "bf16")
    boundary = max(1, *(bond.start for bond in spec.bonds)) if spec.bonds else 1
    rows = expected.rows
    for span in (LayerSpan(0, boundary), LayerSpan(boundary, spec.layer_count)):
        part = Stage.random(spec, span, "bf16", numerics="portable")
        rows = part.chunk(part.open(PROMPT), rows)
    assert torch.equal(rows, expected.passed)


@pytest.mark.parametrize("name", DECODERS)
def test_it_is_the_same_model(name: str) -> None:
    spec = DECODERS[name]
    (ours, head), (theirs, their_head) = loaded(spec, "fp32"), loaded(spec, "fp32", "native")
    ids = ids_of(spec, PROMPT)
    logits = head.logits(ours.chunk(ours.open(PROMPT), head.embed(ids, 0)))
    expected = their_head.logits(theirs.chunk(theirs.open(PROMPT), their_head.embed(ids, 0)))
    assert difference(logits, expected) < 1e-5


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("name", ["qwen3", "gemma2", "qwen3-moe", "gpt-oss", "falcon", "qwen3-5-odd"])
def test_integer_weights(name: str, precision: str) -> None:
    spec, ours = DECODERS[name], whole(name, precision)
    exact, its_head = loaded(spec, "fp32")
    expected = its_head.logits(exact.chunk(exact.open(PROMPT), its_head.embed(ids_of(spec, PROMPT), 0)))
    error = (ours.logits - expected).norm() / expected.norm()
    recurrent = any(kind.delta for kind in spec.kinds)
    assert error < (RECURRENT_ERRORS if recurrent else ERRORS)[precision]
    needed = footprint(spec, spec.span, precision)
    assert 0.7 * needed <= ours.stage.weight_bytes


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
@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=strategies.data())
def test_computers_change_no_bit_of_an_encoder(name: str, data: strategies.DataObject) -> None:
    spec = ModelSpec.from_config(ENCODERS[name])
    ids, seen = ids_of(spec, PROMPT), []
    stage, head = loaded(spec, data.draw(precisions(spec), "precision"))
    for computer in data.draw(strategies.lists(computers(), min_size=2, max_size=4, unique=True)):
        computer.settle()
        with closing(stage.open(PROMPT)) as cache:
            seen.append(head.features(stage.chunk(cache, head.embed(ids, 0))))
    assert all(torch.equal(each, seen[0]) for each in seen[1:])


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_the_same_model(name: str) -> None:
    spec = ModelSpec.from_config(ENCODERS[name])
    ids = ids_of(spec, PROMPT)
    ours, theirs = (
        head.features(stage.chunk(stage.open(PROMPT), head.embed(ids, 0)))
        for stage, head in (loaded(spec, "fp32"), loaded(spec, "fp32", "native"))
    )
    assert difference(ours, theirs) < 1e-5


@pytest.mark.parametrize("name", ["qwen3", "gpt-oss", "falcon"])
def test_long_contexts_are_shared_among_threads(name: str) -> None:
    """From so many positions on a row's blocks are computed by several threads, and joined as one would."""
    spec, kernels, count = replace(DECODERS[name], max_positions=2048), library(), 1300
    assert kernels is not None
    stage, _ = loaded(spec, "bf16")
    rows = torch.randn(count, spec.width, generator=torch.Generator().manual_seed(5)).to(stage.dtype)
    cache = stage.open(count)
    for part in torch.split(rows[:-3], 128):
        stage.chunk(cache, part)
    kernels.set_threads(1)
    expected = stage.chunk(cache, rows[-3:])
    for threads in (2, 3):
        kernels.set_threads(threads)
        cache.rollback(count - 3)
        one, two = stage.decode([(cache, rows[-3:-2])])[0], stage.decode([(cache, rows[-2:])])[0]
        assert torch.equal(torch.cat((one, two)), expected)
