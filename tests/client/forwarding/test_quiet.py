"""Decode rows of which the last hop alone tells: how few messages they take, and what becomes of those that nobody was told."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.answers import ask, unsplit
from support.clock import run_virtual
from support.swarm import LocalSwarm

from swarm.client.forwarding.quiet import ALOUD_STEPS, MOST_OWED
from swarm.client.generate import Options
from swarm.config import ClientConfig
from swarm.trace import Event, Trace
from swarm.wire.connection import Connection
from swarm.wire.messages import Expect, Forward, Message, Push, Result
from swarm.worker import sessions

SPANS = [(0, 1), (1, 3), (3, 4)]
PROMPT = [(5 * index) % 250 for index in range(20)]
TOKENS = 48
OPTIONS = Options(max_tokens=TOKENS, ignore_eos=True)


@pytest.fixture(scope="module")
def tokens(model: Path) -> list[int]:
    return asyncio.run(unsplit(model, PROMPT, OPTIONS))


def at(position: int, act: Any) -> Trace:
    """Acts once, as rows of that position leave."""
    left = [act]

    def listen(event: Event) -> None:
        if (event.name, event.phase) == ("hop.forward", "started") and event.details["position"] == position and left:
            left.pop()()

    return Trace(listen)


def test_a_token_is_one_message_to_each_hop_and_one_home_and_no_inner_row_passes_the_client(
    model: Path, tokens: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: Counter[type[Message]] = Counter()
    send = Connection.send

    def counted(self: Connection, stream: int, message: Message, *codec: str) -> Any:
        sent[type(message)] += 1
        return send(self, stream, message, *codec)

    monkeypatch.setattr(Connection, "send", counted)

    async def main() -> None:
        async with LocalSwarm(model, SPANS) as swarm, swarm.client() as client:
            answer = await ask(client, PROMPT, OPTIONS)
        assert answer.token_ids == tokens

    run_virtual(main())
    aloud = ALOUD_STEPS + 1 + TOKENS // MOST_OWED + 1  # the prompt too, and once edges are made anew
    hops = len(SPANS)
    assert sent[Push] >= (hops - 1) * (TOKENS - 2 * aloud) + TOKENS - 1 - 2 * aloud  # to the first, and along each edge
    assert sent[Forward] <= 2 * aloud
    assert sent[Result] <= TOKENS + 2 * aloud * (hops - 1)
    assert sent[Expect] <= TOKENS + 2 * aloud * (hops - 1)


@pytest.mark.parametrize("victims", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}], ids=str)
def test_whoever_dies_while_rows_are_owed(model: Path, tokens: list[int], victims: set[int]) -> None:
    """The hop before it has what it was given; where that died as well, it is replayed from before."""

    async def main() -> None:
        async with LocalSwarm(model, SPANS * 2) as swarm:

            def kill() -> None:
                using = [worker for worker in swarm.workers if len(worker.service._sessions)]
                for worker in using:
                    if (worker.span.start, worker.span.stop) in [SPANS[victim] for victim in victims]:
                        worker.kill()

            async with swarm.client(at(len(PROMPT) + ALOUD_STEPS + 12, kill)) as client:
                answer = await ask(client, PROMPT, OPTIONS)
        assert answer.token_ids == tokens
        assert answer.session.exact  # type: ignore[union-attr]
        assert len(answer.session.recoveries) == len(victims)  # type: ignore[union-attr]

    run_virtual(main())


def test_rows_that_a_worker_has_forgotten_are_replayed(
    model: Path, tokens: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "KEPT_RESULTS", 3)

    async def main() -> None:
        async with LocalSwarm(model, SPANS * 2) as swarm, swarm.client() as client:
            answer = await ask(client, PROMPT, OPTIONS)
        assert answer.token_ids == tokens
        assert "not kept here any more" in answer.session.recoveries[0].cause  # type: ignore[union-attr]

    run_virtual(main())


@pytest.mark.parametrize("count", [31, 32, 33, 34, 48])  # one of these ends with a receipt that came quietly
@pytest.mark.parametrize("direct", [True, False])
def test_all_is_told_and_signed_when_an_answer_ends(model: Path, direct: bool, count: int) -> None:
    async def main() -> None:
        async with (
            LocalSwarm(model, SPANS, client_config=ClientConfig(direct=direct)) as swarm,
            swarm.client() as client,
        ):
            answer = client.generate(PROMPT, options=Options(max_tokens=count, ignore_eos=True))
            links: list[Any] = []
            async for _ in answer:
                links = list(answer.session._links)  # type: ignore[union-attr]
        rows = len(PROMPT) + count - 1
        assert not any(link.disputed for link in links)
        assert [link.inputs.length for link in links] == [rows] * len(SPANS)
        assert [link.receipts[-1].stop for link in links] == [rows] * len(SPANS)

    run_virtual(main())


def test_another_answer_begins_with_the_rows_of_one_that_still_owes_some(model: Path) -> None:
    prompt = [(5 * index) % 250 for index in range(140)]

    async def main() -> None:
        async with LocalSwarm(model, SPANS) as swarm, swarm.client() as client:
            first = client.generate(prompt, options=OPTIONS)
            async for token in first:
                if token.index == ALOUD_STEPS + 8:
                    second = client.generate([*prompt, *first.token_ids, 7], options=OPTIONS)
                    await second.read()
            alone = client.generate([*prompt, *first.token_ids[: ALOUD_STEPS + 9], 7], options=OPTIONS, reuse=False)
            await alone.read()
        assert second.token_ids == alone.token_ids
        assert second.cached_tokens >= len(prompt)

    run_virtual(main())


def test_an_answer_that_ends_as_its_client_is_closed_fails_for_no_want_of_copies(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, SPANS) as swarm:
            client = swarm.client()
            await client.__aenter__()
            answer = client.generate(PROMPT, options=OPTIONS)
            async for token in answer:
                if token.index == ALOUD_STEPS + 5:  # some rows are owed
                    assert client._parts.peers is not None
                    await client._parts.peers.__aexit__()
                    break
            await answer.aclose()
            await client.__aexit__(None, None, None)

    run_virtual(main())
