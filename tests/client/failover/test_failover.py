"""Whoever dies, and whenever: the tokens are those of the unsplit run, bit for bit, none lost and none twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.models import make_model
from support.swarm import LocalSwarm

from chaos.computers import restored, unlike
from swarm.client import Client
from swarm.client.generate import Options
from swarm.config import ClientConfig
from swarm.sampling import Sampling
from swarm.trace import Event, Trace

SPANS = [(0, 2), (2, 5), (5, 6)]  # the chain's; each has REPLICAS workers
REPLICAS = 3
PROMPT = [(7 * index) % 250 for index in range(200)]  # two chunks of the grid
TOKENS = 12
SAMPLINGS = {"greedy": Sampling(), "sampled": Sampling(temperature=1.0, top_k=50, seed=11)}
LAST = len(PROMPT) + TOKENS - 2  # position of the last decode step

# When to kill, as the position whose rows are on their way to the victim.
MOMENTS = {"first chunk": 0, "mid-prompt": 128, "first decode": len(PROMPT), "middle": len(PROMPT) + 5, "last": LAST}
REPLAYED = (0, 128, 200)  # likewise in a replay

PORTABLE = ("fp32", "bf16", "int8", "int4", "int8+activations-int16+cache-int8")
SHORTLY = 17  # of the cases of unlike replicas one in so many is not for the long run alone


def some(cases: Iterable[tuple[object, ...]]) -> list[Any]:
    """A few for every day; the others are marked as soak."""
    return [
        pytest.param(*case, marks=() if number % SHORTLY == 0 else pytest.mark.soak)
        for number, case in enumerate(cases)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(
        tmp_path_factory.mktemp("model"), num_hidden_layers=6, tokenizer=True, vocab_size=288, tie_word_embeddings=False
    )


@cache
def unsplit(model: Path, precision: str, sampling: str, numerics: str) -> tuple[int, ...]:
    """The ids of the undisturbed run in one process."""

    async def main() -> tuple[int, ...]:
        async with Client(model, local=True, precision=precision, numerics=numerics) as client:
            answer = client.generate(PROMPT, options=options(sampling))
            await answer.read()
            return tuple(answer.token_ids)

    return asyncio.run(main())


def options(sampling: str) -> Options:
    return Options(max_tokens=TOKENS, sampling=SAMPLINGS[sampling], ignore_eos=True)


class Killer:
    """Kills by what the client's trace tells, before the rows leave."""

    def __init__(self, swarm: LocalSwarm, decide: Callable[[Killer, Event], None]) -> None:
        self.swarm = swarm
        self.killed: list[str] = []
        self.replaying = False
        self._decide = decide

    def __call__(self, event: Event) -> None:
        if event.name == "session.failover":
            self.replaying = event.phase == "started"
        self._decide(self, event)

    def kill(self, short: str) -> None:
        self.killed.append(short)
        self.swarm.worker(short).kill()

    def span_of(self, event: Event) -> int:
        """Which of SPANS the peer of a hop event serves."""
        worker = self.swarm.worker(event.details["peer"])
        return SPANS.index((worker.span.start, worker.span.stop))


def run(
    model: Path,
    precision: str,
    sampling: str,
    decide: Callable[[Killer, Event], None],
    kills: int,
    numerics: str = "native",
) -> None:
    """Replicas of portable numerics differ in threads and instruction sets."""
    expected = unsplit(model, precision, sampling, numerics)

    async def main() -> None:
        spans = [span for span in SPANS for _ in range(REPLICAS)]
        async with LocalSwarm(
            model,
            spans,
            precision=precision,
            client_config=ClientConfig(deadline_seconds=20),
            numerics=numerics,
            computers=unlike(len(spans)) if numerics == "portable" else (),
        ) as swarm:
            killer = Killer(swarm, decide)
            async with swarm.client(Trace(killer)) as client:
                answer = client.generate(PROMPT, options=options(sampling))
                tokens = [token async for token in answer]
            assert [token.id for token in tokens] == list(expected)
            assert [token.index for token in tokens] == list(range(TOKENS))
            assert "".join(token.text for token in tokens) == answer.text
            assert len(killer.killed) == kills
            assert sum(1 for _ in answer.session.recoveries) >= 1  # type: ignore[union-attr]
            assert answer.session.exact  # type: ignore[union-attr]

    with restored():
        asyncio.run(asyncio.wait_for(main(), 60))


def at(moment: str, victim: int) -> Callable[[Killer, Event], None]:
    def decide(killer: Killer, event: Event) -> None:
        if killer.killed or event.name != "hop.forward" or event.phase != "started":
            return
        if event.details["position"] == MOMENTS[moment] and killer.span_of(event) == victim:
            killer.kill(event.details["peer"])

    return decide


def in_the_replay(position: int, victim: int) -> Callable[[Killer, Event], None]:
    """A worker in the middle of the answer, and the one in its place at this position of the replay."""

    def decide(killer: Killer, event: Event) -> None:
        if event.name != "hop.forward" or event.phase != "started" or len(killer.killed) == 2:
            return
        wanted = position if killer.replaying else len(PROMPT) + 5
        if event.details["position"] == wanted and killer.span_of(event) == victim:
            killer.kill(event.details["peer"])

    return decide


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", range(len(SPANS)))
def test_one_worker_dies(model: Path, precision: str, sampling: str, moment: str, victim: int) -> None:
    run(model, precision, sampling, at(moment, victim), kills=1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("victim", range(len(SPANS)))
@pytest.mark.parametrize("position", REPLAYED)
def test_the_replacement_dies_during_its_replay(
    model: Path, precision: str, sampling: str, victim: int, position: int
) -> None:
    """The first worker dies in the middle; its replacement at the start, in the middle or near the end of the replay."""
    run(model, precision, sampling, in_the_replay(position, victim), kills=2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("moment", ["mid-prompt", "middle"])
def test_two_workers_die_at_once(
    model: Path, precision: str, sampling: str, pair: tuple[int, int], moment: str
) -> None:
    chain: dict[int, str] = {}

    def decide(killer: Killer, event: Event) -> None:
        if event.name != "hop.forward" or killer.killed:
            return
        chain[killer.span_of(event)] = event.details["peer"]
        if event.phase == "started" and event.details["position"] == MOMENTS[moment] and len(chain) == len(SPANS):
            for index in pair:
                killer.kill(chain[index])

    run(model, precision, sampling, decide, kills=2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("victim", range(len(SPANS)))
def test_a_worker_dies_after_computing_and_before_its_reply_is_used(model: Path, precision: str, victim: int) -> None:
    def decide(killer: Killer, event: Event) -> None:
        if killer.killed or event.name != "hop.forward" or event.phase != "complete":
            return
        if event.details["position"] == MOMENTS["middle"] and killer.span_of(event) == victim:
            killer.kill(event.details["peer"])

    run(model, precision, "greedy", decide, kills=1)


@pytest.mark.parametrize(
    ("precision", "sampling", "moment", "victim"), some(product(PORTABLE, SAMPLINGS, MOMENTS, range(len(SPANS))))
)
def test_one_of_unlike_replicas_dies(model: Path, precision: str, sampling: str, moment: str, victim: int) -> None:
    run(model, precision, sampling, at(moment, victim), kills=1, numerics="portable")


@pytest.mark.parametrize(
    ("precision", "sampling", "position", "victim"), some(product(PORTABLE, SAMPLINGS, REPLAYED, range(len(SPANS))))
)
def test_an_unlike_replacement_dies_during_its_replay(
    model: Path, precision: str, sampling: str, position: int, victim: int
) -> None:
    run(model, precision, sampling, in_the_replay(position, victim), kills=2, numerics="portable")
