"""In virtual time: a worker that stops in order is in no new chain a second later, whoever asks; sessions that run go on."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from support.clock import run_virtual

from chaos.simulation.model import Ask, prepared
from chaos.simulation.peers import Asker, Worker
from chaos.simulation.seeding import seeded
from chaos.simulation.surroundings import Topology
from chaos.simulation.world import World
from swarm.records import PeerState
from swarm.sampling import Sampling
from swarm.span import LayerSpan

WHOLE, FIRST, SECOND = LayerSpan(0, 2), LayerSpan(0, 1), LayerSpan(1, 2)


def topology(latency: float) -> Topology:
    spans = (FIRST, SECOND) * 2
    return Topology(
        workers=tuple((span, "fp32") for span in spans), clients=("fp32", "fp32"), latency=latency, step_seconds=0.02
    )


async def hops(asker: Asker) -> set[bytes]:
    """Of the chain that a session would get now."""
    return {hop.peer_id for hop in (await asker._resolver.chain(WHOLE)).hops}


async def state_of(worker: Worker, asker: Asker) -> PeerState:
    """As the directory tells somebody who looks now."""
    found = await asker.directory.lookup(asker.world.prepared.model)
    return next(one.record.state for one in found if one.record.peer_id == worker.peer_id)


@pytest.mark.parametrize("latency", [0.005, 0.05])
@pytest.mark.parametrize("running", [False, True])
def test_a_second_after_its_stop_nobody_asks_it(latency: float, running: bool) -> None:
    made = prepared()
    ask = Ask(made.ask(Random(1), "fp32").prompt, Sampling(), 12, "fp32")

    async def main() -> None:
        async with World(1, topology(latency), made) as world:
            asked, other = world.askers
            for asker in world.askers:
                await asker.ready.wait()
            await asyncio.sleep(1)
            answer = asked.answer(ask)
            reading = asyncio.create_task(answer.read())
            await world.step(3)
            leaver = next(each for each in world.workers if each.service.load().sessions)
            if not running:
                await reading
                await asyncio.sleep(5)
                assert leaver.peer_id in await hops(asked)
            await hops(other)  # looks records up, and will remember this one's
            leaver.drain()
            await asyncio.sleep(1)
            assert leaver.peer_id not in await hops(asked)  # was told
            assert await state_of(leaver, other) in (PeerState.DRAINING, PeerState.GONE)
            later, began = other.answer(ask), world.time
            async for _ in later:
                break
            assert leaver.peer_id not in {hop.peer_id for hop in later.session.chain.hops}  # type: ignore[union-attr]
            assert world.time - began < 1 + 20 * latency
            await later.aclose()
            await reading
            assert answer.token_ids == made.expected(ask)
            await asyncio.sleep(1)
            assert await state_of(leaver, other) is PeerState.GONE
            await leaver.start()
            await asyncio.sleep(1)
            assert await state_of(leaver, other) is PeerState.SERVING

    with seeded(1):
        run_virtual(main())
