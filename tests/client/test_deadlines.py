"""Every request ends by its deadline, whatever hangs, and says what it waited for; a failed step may be tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.answers import OPTIONS, PROMPT, ask
from support.clock import run_virtual
from support.swarm import LocalSwarm, LocalWorker

from swarm.client.room import Room
from swarm.client.session import ChainSession
from swarm.config import ClientConfig
from swarm.errors import DeadlineExceeded, LocalFault, NoChain, Overloaded, UsageFault
from swarm.trace import Event, Trace
from swarm.transport.channels.channel import Channel
from swarm.wire.messages import Forward, Open, Renew, Working
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

CONFIG = ClientConfig(deadline_seconds=30)
HIDDEN = 64


class Clock:
    def __init__(self) -> None:
        self.began = asyncio.get_running_loop().time()

    @property
    def seconds(self) -> float:
        return asyncio.get_running_loop().time() - self.began


def stuck(worker: LocalWorker, *, waiting: bool = False) -> Any:
    """A handler whose work never ends from position 128 on, though it says Working, or that it waits for rows that it has."""

    async def handle(message: Any, exchange: Any) -> Any:
        while isinstance(message, Forward) and message.position:
            exchange.progress(Working(message.session_id, message.step, 1, waiting))
            await asyncio.sleep(0.5)
        return await worker.service.handle(message, exchange)

    return handle


def test_a_computation_that_never_ends_is_given_up_at_the_deadline(model: Path) -> None:
    """The only worker is left and asked again; the replay's rows start time anew, once."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)], client_config=CONFIG) as swarm:
            worker = swarm.workers[0]
            worker.handler = stuck(worker)
            async with swarm.client() as client:
                clock = Clock()
                with pytest.raises(DeadlineExceeded, match=rf"position 128: peer {worker.peer_id.short} has not"):
                    await ask(client)
                assert 45 <= clock.seconds <= 47
                await swarm.freed(1)

    run_virtual(main())


@pytest.mark.parametrize("waiting", [False, True])
def test_a_computation_that_never_ends_is_left_when_nothing_explains_it(
    model: Path, expected: list[int], waiting: bool
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm, swarm.client() as client:
            worker = min(swarm.workers, key=lambda worker: worker.peer_id)
            worker.handler = stuck(worker, waiting=waiting)
            clock = Clock()
            answer = await ask(client)
            assert answer.token_ids == expected
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert recovery.peer_id == worker.peer_id
            assert "has said that it works for 15 s, and nothing moved" in recovery.cause
            assert 15 <= clock.seconds <= 17

    run_virtual(main())


@pytest.mark.parametrize("position", [0, 128, 144])
def test_a_worker_that_loses_a_request_and_is_well_otherwise_is_left(
    model: Path, expected: list[int], position: int
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 2) as swarm, swarm.client() as client:
            worker = min(swarm.workers, key=lambda worker: worker.peer_id)
            never = asyncio.Event()

            async def lose(message: Any, exchange: Any) -> Any:
                if isinstance(message, Forward) and message.position == position:
                    await never.wait()
                return await worker.service.handle(message, exchange)

            worker.handler = lose
            clock = Clock()
            answer = await ask(client)
            assert answer.token_ids == expected
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert recovery.peer_id == worker.peer_id
            assert "answers Pings and has said nothing of a request for 5 s" in recovery.cause
            assert not recovery.moved
            assert clock.seconds < 9

    run_virtual(main())


def test_peers_that_never_answer_a_dial_are_given_up_at_the_deadline(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4), (0, 4)], client_config=CONFIG) as swarm, swarm.client() as client:
            for worker in swarm.workers:
                worker.freeze()
            clock = Clock()
            with pytest.raises((NoChain, DeadlineExceeded), match="waited 30 s for a chain to open"):
                await ask(client)
            assert 30 <= clock.seconds <= 32

    run_virtual(main())


def test_a_directory_that_never_answers_is_given_up_when_a_session_opens(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)], client_config=CONFIG) as swarm, swarm.client() as client:
            never = asyncio.Event()
            swarm.records.lookup = lambda _: never.wait()  # type: ignore[assignment, method-assign, return-value]
            clock = Clock()
            with pytest.raises(DeadlineExceeded, match="waited 15 s for the directory"):
                await ask(client)
            assert clock.seconds == pytest.approx(15, abs=1)

    run_virtual(main())


def test_a_directory_that_never_answers_is_given_up_during_a_failover(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)], client_config=CONFIG) as swarm:
            never = asyncio.Event()
            came = ("hop.forward", "complete", 0)

            def act(event: Event) -> None:
                if came == (event.name, event.phase, event.details.get("position")) and swarm.workers[0].alive:
                    swarm.workers[0].kill()
                    swarm.records.lookup = lambda _: never.wait()  # type: ignore[assignment, method-assign, return-value]

            async with swarm.client(Trace(act)) as client:
                clock = Clock()
                with pytest.raises(DeadlineExceeded, match="waited 30 s for rows at position 128"):
                    await ask(client)
                assert 30 <= clock.seconds <= 32
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


def test_a_replay_may_take_longer_than_a_step(model: Path) -> None:
    """Far away, ten chunks take ten seconds: a replay of them is no failure as long as it gets on."""

    async def main() -> None:
        config = ClientConfig(deadline_seconds=8)
        async with LocalSwarm(model, [(0, 4), (0, 4)], client_config=config) as swarm:
            swarm.hub.latency = 0.5
            dying = []

            def act(event: Event) -> None:
                if event.name == "hop.forward" and event.details["position"] == 10 * 128 + 2 and not dying:
                    dying.append(swarm.worker(event.details["peer"]).kill())

            async with swarm.client(Trace(act)) as client:
                answer = client.generate([5] * 1280, options=OPTIONS)
                await answer.read()
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert recovery.seconds > 8

    run_virtual(main())


def test_a_worker_cannot_make_a_session_wait_for_long(model: Path, expected: list[int]) -> None:
    """Nor end it: by asking for a minute's patience, or for none at all."""

    async def main() -> None:
        for retry_after in (60.0, 0.0):
            async with LocalSwarm(model, [(0, 4)] * 2, client_config=CONFIG) as swarm:
                bad = min(swarm.workers, key=lambda worker: worker.peer_id)

                async def busy(message: Any, exchange: Any) -> Any:
                    refused = Open if retry_after == 0 else Forward  # noqa: B023
                    if isinstance(message, refused):
                        raise Overloaded("the test has no room", retry_after=retry_after)  # noqa: B023
                    return await bad.service.handle(message, exchange)  # noqa: B023

                bad.handler = busy
                async with swarm.client() as client:
                    clock = Clock()
                    assert (await ask(client)).token_ids == expected
                    assert clock.seconds < 5

    run_virtual(main())


def test_a_fault_of_ours_ends_the_answer_and_nobody_is_blamed(
    model: Path, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm:
            events: list[Event] = []
            async with swarm.client(Trace(events.append)) as client:
                honest = Channel.request

                async def broken(self: Channel, message: Any, *rest: Any) -> Any:
                    if isinstance(message, Forward) and message.position == 142:
                        raise LocalFault("the test breaks this machine")
                    return await honest(self, message, *rest)

                with monkeypatch.context() as patched:
                    patched.setattr(Channel, "request", broken)
                    with pytest.raises(LocalFault, match="breaks this machine"):
                        await ask(client)
                await swarm.freed(1)
                assert (await ask(client)).token_ids == expected
            assert {event.name for event in events}.isdisjoint({"session.failover", "peers.suspect", "session.wait"})

    run_virtual(main())


def test_leases_are_renewed_though_one_worker_answers_renewals_badly(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        config = ClientConfig(deadline_seconds=400)
        async with LocalSwarm(model, [(0, 1), (1, 2), (2, 4)], client_config=config) as swarm:
            refusing, silent, idle = swarm.workers
            never = asyncio.Event()

            async def refuse(message: Any, exchange: Any) -> Any:
                if isinstance(message, Renew):
                    raise Overloaded("the test has no time")
                return await refusing.service.handle(message, exchange)

            async def ignore(message: Any, exchange: Any) -> Any:
                if isinstance(message, Renew):
                    await never.wait()
                return await silent.service.handle(message, exchange)

            refusing.handler, silent.handler = refuse, ignore
            async with swarm.client() as client:
                answer = client.generate(PROMPT, options=OPTIONS)
                async for token in answer:
                    if token.index == 5:
                        await asyncio.sleep(200)
                        assert idle.service.load().sessions == 1
            assert answer.token_ids == expected

    run_virtual(main())


@asynccontextmanager
async def a_session(swarm: LocalSwarm, max_rows: int) -> AsyncIterator[ChainSession]:
    async with swarm.client() as client:
        peers = client._parts.peers
        assert peers is not None
        chain = await client.resolver.first_chain()
        async with ChainSession(
            client.resolver, peers, swarm.client_config, client.trace, chain, "fp32", Room.whole(max_rows)
        ) as session:
            yield session


def rows(count: int, fill: int) -> Tensor:
    data = bytes([fill, 0, 0, 63] * HIDDEN * count)  # small numbers about a half
    return Tensor("fp32", (count, HIDDEN), memoryview(data))


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_step_that_failed_may_be_tried_again_even_with_other_rows(model: Path, lost: int) -> None:
    """The rows that the hops before the hole were given have not happened either."""

    async def run(disturbed: bool) -> list[bytes]:
        spans = [(0, 1), (1, 3), (3, 4)]
        async with LocalSwarm(model, spans, client_config=CONFIG) as swarm, a_session(swarm, 200) as session:
            outputs = [await session.step(Rows.CHUNK, rows(100, 1))]
            if disturbed:
                swarm.workers[lost].kill()
                with pytest.raises(NoChain, match="waited 30 s"):
                    await session.step(Rows.DECODE, rows(1, 2))
                assert session.position == 100
                await swarm.add_span(*spans[lost])
            outputs += [await session.step(Rows.DECODE, rows(1, fill)) for fill in (3, 4, 5)]
            return [bytes(output.data) for output in outputs]

    assert run_virtual(run(True)) == run_virtual(run(False))


def test_more_rows_than_a_session_was_opened_for_are_refused_here(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)]) as swarm, a_session(swarm, 10) as session:
            await session.step(Rows.CHUNK, rows(9, 1))
            with pytest.raises(UsageFault, match="rows up to 11 of a session opened for 10"):
                await session.step(Rows.DECODE, rows(2, 1))
            await session.step(Rows.DECODE, rows(1, 1))

    run_virtual(main())
