"""Who may push rows into a session: the predecessor that its owner named, by the edge that it named last."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.clock import run_virtual
from support.models import make_model
from support.swarm import LocalSwarm, LocalWorker

from swarm.config import ChannelConfig
from swarm.errors import Overloaded, PeerFault, SessionFault
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.wire.messages import Attach, Connect, Connected, Expect, Open, Opened, Push, Result
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor
from swarm.wire.tickets import issue

OWNER, NEIGHBOUR, STRANGER = (Identity.from_seed(bytes([n]) * 32) for n in (101, 102, 103))
SESSION = bytes(range(16))
HIDDEN = 64
ROWS = Tensor("fp32", (1, HIDDEN), memoryview(bytes(4 * HIDDEN)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), tokenizer=True)


async def channel(swarm: LocalSwarm, worker: LocalWorker, identity: Identity) -> Channel:
    network = swarm.hub.node(identity.peer_id)
    return await dial(network, (worker.address,), worker.peer_id, ChannelConfig(), Trace())


def pushed(step: int, epoch: int) -> Push:
    return Push(SESSION, step, step, Rows.DECODE, ROWS, 0, epoch)


async def reached(channel: Channel, worker: LocalWorker) -> int:
    """How many rows the session's worker has once it has read, and computed, all that this channel brought."""
    with pytest.raises(SessionFault):
        await channel.request(Attach(SESSION, 0, bytes(64)))
    for step in [step for steps in worker.service._steps._running.values() for step in steps.values()]:
        await asyncio.wait({step})
    return worker.service._sessions.find(SESSION).cache.position


def test_rows_are_taken_from_the_predecessor_alone_and_told_to_the_owner(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2)]) as swarm:
            (worker,) = swarm.workers
            owner, neighbour, stranger = [await channel(swarm, worker, each) for each in (OWNER, NEIGHBOUR, STRANGER)]
            opened = await owner.request(Open(SESSION, swarm.model.digest, LayerSpan(0, 2), "fp32", 16))
            assert isinstance(opened, Opened)
            first = issue(OWNER, SESSION, 1, NEIGHBOUR.peer_id)
            neighbour.push(pushed(0, 1))  # before it is let in
            for ticket, epoch in ((issue(STRANGER, SESSION, 1, STRANGER.peer_id), 1), (first, 1), (first, 2)):
                with pytest.raises(SessionFault, match="has not named you"):
                    await stranger.request(Attach(SESSION, epoch, ticket))
            assert await neighbour.request(Attach(SESSION, 1, first)) == Connected(SESSION, 1)
            stranger.push(pushed(0, 1))
            assert await reached(neighbour, worker) == 0
            neighbour.push(pushed(0, 1))
            told = await owner.request(Expect(SESSION, 0))
            assert isinstance(told, Result)
            assert (told.step, told.onward) == (0, False)

            second = issue(OWNER, SESSION, 2, STRANGER.peer_id)  # another is named: what the old one sends is dropped
            assert await stranger.request(Attach(SESSION, 2, second)) == Connected(SESSION, 2)
            for late in (pushed(1, 1), pushed(1, 2)):
                neighbour.push(late)
            assert await reached(neighbour, worker) == 1
            with pytest.raises(SessionFault, match="has not named you"):
                await neighbour.request(Attach(SESSION, 1, first))
            for each in (owner, neighbour, stranger):
                await each.aclose()

    run_virtual(main())


def test_what_is_expected_and_overtaken_is_told_and_a_question_after_the_rows_is_answered(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2)]) as swarm:
            (worker,) = swarm.workers
            owner, neighbour = [await channel(swarm, worker, each) for each in (OWNER, NEIGHBOUR)]
            await owner.request(Open(SESSION, swarm.model.digest, LayerSpan(0, 2), "fp32", 16))
            await neighbour.request(Attach(SESSION, 1, issue(OWNER, SESSION, 1, NEIGHBOUR.peer_id)))
            for step in range(3):
                neighbour.push(pushed(step, 1))
            results = [await owner.request(Expect(SESSION, step)) for step in (2, 0, 1)]
            assert [result.step for result in results if isinstance(result, Result)] == [2, 0, 1]
            neighbour.push(pushed(9, 1))  # they leave a gap
            with pytest.raises(PeerFault, match="holds less"):
                await owner.request(Expect(SESSION, 9))
            for each in (owner, neighbour):
                await each.aclose()

    run_virtual(main())


def test_whoever_expects_a_step_hears_of_it_as_it_comes(model: Path) -> None:
    """Also who asked while another's question was older, and waits in vain by now."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 2)]) as swarm:
            (worker,) = swarm.workers
            owner = await channel(swarm, worker, OWNER)
            await owner.request(Open(SESSION, swarm.model.digest, LayerSpan(0, 2), "fp32", 16))
            loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
            first = asyncio.create_task(owner.request(Expect(SESSION, 0)))
            await asyncio.sleep(0.3)
            second = asyncio.create_task(owner.request(Expect(SESSION, 0)))
            await asyncio.sleep(0.3)
            owner.push(pushed(0, 0))
            await asyncio.gather(first, second)
            assert loop.time() - began == pytest.approx(0.6, abs=0.05)
            await owner.aclose()

    run_virtual(main())


def test_what_became_of_pushed_rows_is_told_whatever_it_is(model: Path) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2)]) as swarm:
            (worker,) = swarm.workers
            owner = await channel(swarm, worker, OWNER)
            await owner.request(Open(SESSION, swarm.model.digest, LayerSpan(0, 2), "fp32", 16))
            for step, error, told in ((0, MemoryError(), Overloaded), (1, ZeroDivisionError("a bug"), PeerFault)):

                async def fail(*_: object, error: Exception = error) -> None:
                    raise error

                worker.service._batcher.submit = fail  # type: ignore[method-assign]
                owner.push(Push(SESSION, step, 0, Rows.DECODE, ROWS, 0, 0))
                await reached(owner, worker)
                with pytest.raises(told):
                    await owner.request(Expect(SESSION, step))
            await owner.aclose()

    run_virtual(main())


@pytest.mark.parametrize("wrong", ["address", "itself", "key"])
def test_a_next_worker_that_cannot_be_is_refused(model: Path, wrong: str) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm:
            first, second = swarm.workers
            owner = await channel(swarm, first, OWNER)
            await owner.request(Open(SESSION, swarm.model.digest, LayerSpan(0, 2), "fp32", 16))
            place = ("not an address", 7) if wrong == "address" else (second.address.host, second.address.data)
            peer_id = STRANGER.peer_id if wrong == "key" else second.peer_id
            following = SESSION if wrong == "itself" else bytes(16)
            with pytest.raises(PeerFault):
                await owner.request(Connect(SESSION, 1, following, peer_id, (place,), bytes(64)))
            await owner.aclose()

    run_virtual(main())
