"""Whose kernels compute where nobody said, and that it is told when they are torch's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from support.answers import ask
from support.families import CONFIGS
from support.models import make_config, make_model
from support.swarm import LocalSwarm

from swarm.cli.answer.output import sentence_of
from swarm.client import Client
from swarm.engine import Stage
from swarm.engine.portable import choice
from swarm.engine.portable.choice import choose_numerics, no_programs
from swarm.errors import UsageFault
from swarm.model.spec import ModelSpec
from swarm.trace import Event, Trace

SPEC = ModelSpec.from_config(make_config())


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "library", lambda: None)


def test_portable_wherever_it_can_be() -> None:
    assert choose_numerics("auto", "bf16", "cpu", SPEC) == choice.NumericsChoice("portable")
    for config in CONFIGS.values():
        assert choose_numerics("auto", "fp32", "cpu", ModelSpec.from_config(config)).numerics == "portable"
    on_a_card = choose_numerics("auto", "bf16", "cuda:0", SPEC)
    assert on_a_card.numerics == "native"
    assert "on cuda:0 have not been seen on a GPU" in str(on_a_card.reason)
    assert "not on mps" in str(choose_numerics("auto", "bf16", "mps", SPEC).reason)


def test_what_is_named_is_taken(unbuilt: None) -> None:
    for named in ("native", "portable"):
        assert choose_numerics(named, "bf16", "cpu", SPEC) == choice.NumericsChoice(named)
    assert choose_numerics("auto", "int4", "cpu", SPEC).numerics == "portable"  # and refused as it is loaded


def test_a_device_that_computes_no_programs_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert no_programs(torch.device("cpu")) is None
    with pytest.raises(UsageFault, match="not on meta: use --device cpu"):
        Stage.random(SPEC, SPEC.span, device="meta", numerics="portable")
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    assert "Triton, which is not installed" in str(no_programs(torch.device("cuda")))
    monkeypatch.setattr(choice, "find_spec", lambda name: object())
    for capability, reason in (((7, 5), "compute capability 8.0: cuda:1 has less"), ((8, 0), "None")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place, found=capability: found)
        assert reason in str(no_programs(torch.device("cuda:1")))


def told(events: list[Event]) -> list[str]:
    return [str(sentence_of(event)) for event in events if event.name == "engine.numerics"]


def test_one_line_says_that_the_kernels_are_not_there(tmp_path: Path, unbuilt: None) -> None:
    async def main() -> list[Event]:
        events: list[Event] = []
        async with Client(
            make_model(tmp_path / "model", tokenizer=True), local=True, trace=Trace(events.append)
        ) as client:
            await ask(client)
            assert client.local_model is not None
            assert client.local_model.stage.numerics.startswith("bf16/cpu")
        return events

    (line,) = told(asyncio.run(main()))
    assert "not built" in line


def test_a_head_without_kernels_serves_a_portable_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[Event]:
        events: list[Event] = []
        async with LocalSwarm(make_model(tmp_path / "model", tokenizer=True), [(0, 2), (2, 4)]) as swarm:
            assert {worker.service.stage.numerics for worker in swarm.workers} == {"portable-1:fp32"}
            monkeypatch.setattr(choice, "library", lambda: None)
            async with swarm.client(Trace(events.append)) as client:
                for _ in range(2):
                    assert len((await ask(client)).token_ids) == 10
        return events

    (line,) = told(asyncio.run(main()))
    assert "not built" in line
