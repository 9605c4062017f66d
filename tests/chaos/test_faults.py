"""Each fault by itself: what it does while it is in force, and that nothing of it is left afterwards."""

import asyncio
from random import Random

import pytest

from chaos.simulation.clock import run_virtual
from chaos.simulation.faults import (
    ASKED,
    BadDatagrams,
    Crash,
    Cut,
    Damage,
    Delay,
    Drain,
    FullCache,
    Lies,
    Pause,
    Skew,
    Slow,
    aimed,
    draw_faults,
    draw_topology,
    spared,
)
from chaos.simulation.model import prepared
from chaos.simulation.seeding import seeded
from chaos.simulation.surroundings import Topology
from chaos.simulation.world import World
from swarm.span import LayerSpan

WHOLE = Topology(((LayerSpan(0, 2), "fp32"),), ("fp32",), latency=0.002, step_seconds=0.05)
FAULTS = [
    BadDatagrams(0.2, 0.3, 0.2, 0.1),
    Crash("w0"),
    Crash("b0"),
    Cut("c0", "w0", both=True),
    Cut("w0", "c0", both=False),
    Damage("w0", 0.5),
    Delay("w0", 0.5),
    Drain("w0"),
    FullCache("w0"),
    Lies("w0", "identity", "always"),
    Pause("w0"),
    Skew("w0", 10.0),
    Slow("w0", 10.0),
]


def ask(world, tokens=4):
    found = prepared().ask(Random(3), world.askers[0].precision)
    return type(found)(found.prompt, found.sampling, tokens, found.precision)


async def answered(world, tokens=4):
    """Seconds that an answer took, after it was found to be right."""
    asked = ask(world, tokens)
    began = world.time
    answer = world.askers[0].answer(asked)
    await answer.read()
    assert answer.token_ids == prepared().expected(asked)
    return world.time - began


def simulated(main, topology=WHOLE):
    made = prepared()

    async def inside():
        async with World(1, topology, made) as world:
            return await main(world)

    with seeded(1):
        return run_virtual(inside())


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_after_a_fault_everything_is_as_it_was(fault):
    async def main(world):
        usual = await answered(world)
        fault.apply(world)
        await asyncio.sleep(3)
        fault.undo(world)
        await world.settled()
        await asyncio.sleep(35)  # who was suspected is suspected no more
        assert await answered(world) == pytest.approx(usual, abs=0.7)  # perhaps with a new connection and a lookup
        assert world.worker("w0").leftovers() == ""

    simulated(main)


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_fault_may_be_undone_twice_and_without_having_been(fault):
    async def main(world):
        fault.undo(world)
        fault.apply(world)
        fault.apply(world)
        fault.undo(world)
        fault.undo(world)
        await world.settled()
        await asyncio.sleep(35)
        await answered(world)

    simulated(main)


@pytest.mark.parametrize(
    "fault",
    [Crash("w0"), Pause("w0"), Cut("c0", "w0", both=True), Cut("w0", "c0", both=False), FullCache("w0")],
    ids=repr,
)
def test_what_no_answer_comes_through(fault):
    async def main(world):
        await answered(world)
        fault.apply(world)
        with pytest.raises(Exception, match="waited") as raised:
            await answered(world)
        assert not isinstance(raised.value, AssertionError)
        fault.undo(world)
        await world.settled()
        await asyncio.sleep(35)
        await answered(world)

    simulated(main)


def test_a_slow_worker_takes_longer_and_a_delayed_one_too():
    async def main(world):
        await answered(world)
        usual = await answered(world)  # over the connection that there is now
        Slow("w0", 10.0).apply(world)
        assert await answered(world) == pytest.approx(10 * usual, rel=0.1)
        Slow("w0", 10.0).undo(world)
        Delay("w0", 0.5).apply(world)
        assert await answered(world) > usual + 4 * 2 * 0.5

    simulated(main)


@pytest.mark.parametrize("whose", ["b0", "w0", "c0"])
@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_clock_an_hour_off_hides_nobody(whose, seconds):
    async def main(world):
        Skew(whose, seconds).apply(world)
        await answered(world)
        Crash(whose).apply(world)  # it starts with that clock
        Crash(whose).undo(world)
        await world.settled()
        await asyncio.sleep(35)
        await answered(world)
        Skew(whose, seconds).undo(world)
        await asyncio.sleep(65)
        await answered(world)

    simulated(main)


@pytest.mark.parametrize("ahead", [30.0, 500.0])
def test_a_worker_whose_clock_was_set_back_is_found_as_soon_as_it_is_started_again(ahead):
    async def main(world):
        Skew("w0", ahead).apply(world)
        await asyncio.sleep(45)
        Crash("w0").apply(world)
        Skew("w0", ahead).undo(world)
        Crash("w0").undo(world)
        await world.settled()
        await asyncio.sleep(1)
        await answered(world)

    simulated(main)


def test_damage_ends_connections_and_costs_no_token():
    async def main(world):
        answer = world.askers[0].answer(ask(world, 8))
        async for token in answer:
            if token.index == 2:
                Damage("w0", 0.5).apply(world)
        assert answer.token_ids == prepared().expected(ask(world, 8))
        assert "bad record MAC" in " ".join(world.events)

    simulated(main)


def test_a_worker_that_is_told_to_stop_finishes_its_sessions_and_takes_no_others():
    async def main(world):
        answer = world.askers[0].answer(ask(world, 8))
        async for token in answer:
            if token.index == 2:
                Drain("w0").apply(world)
                Drain("w0").undo(world)  # it is to come back once it has stopped
            assert world.peers["w0"].alive
        assert answer.token_ids == prepared().expected(ask(world, 8))
        assert answer.session.recoveries == []
        await world.settled()
        assert await answered(world) < 3.0

    simulated(main)


def test_a_crash_during_the_start_is_survived():
    async def main(world):
        for pause in (0.0, 0.001, 0.01, 0.1, 0.5):
            Crash("w0").apply(world)
            starting = world.spawn(world.peers["w0"].start())
            await asyncio.sleep(pause)
            Crash("w0").apply(world)
            await starting
            Crash("w0").undo(world)
            await world.settled()
        await asyncio.sleep(35)
        await answered(world)

    simulated(main)


def test_schedules_spare_whom_they_shall():
    for seed in range(200):
        random = Random(seed)
        topology, guarded = draw_topology(random)
        calm = spared(topology, guarded)
        assert bool(calm) == guarded
        covered = {precision for span, precision in topology.workers[: len(calm)] if len(span) == 2}
        assert not guarded or covered == set(topology.clients)
        for planned in draw_faults(random, topology, guarded):
            assert not any(repr(name) in repr(planned.fault) for name in calm)


def test_aiming_puts_the_worker_that_is_asked_in_its_place():
    assert aimed(Cut("c0", ASKED, both=True), "w2") == Cut("c0", "w2", both=True)
    assert aimed(Crash(ASKED), "w1") == Crash("w1")
    assert aimed(Crash("b0"), "w1") == Crash("b0")
