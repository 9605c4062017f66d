"""Requests that a live peer has lost, and all that must not be taken for one."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import run_virtual
from support.links import LOAD, echo, forward, memory_link, now

from swarm import errors as e
from swarm.transport.channels.lost_requests import LOST_SECONDS, MOST_CREDIT_SECONDS, QUIET_SECONDS, LostRequests
from swarm.wire.messages import Opened, Renew, Working


class Script:
    """One request and a peer that answers every Ping."""

    def __init__(self) -> None:
        self.lost = LostRequests()
        self.now = 100.0
        self.lost.asked(1, self.now)

    def ping(self, after: float = 0.5, behind_all: bool = True, arriving: bool = False) -> list[int]:
        self.now += after
        self.lost.pinged(self.now, behind_all)
        return self.lost.ponged(arriving)

    def seconds_until_lost(self, after: float = 0.5, **how: bool) -> float:
        began = self.now
        while not self.ping(after, **how):
            assert self.now - began < 100
        return self.now - began


def test_what_pongs_say_nothing_of_for_five_seconds_is_lost() -> None:
    assert Script().seconds_until_lost() == LOST_SECONDS + 0.5  # the first Pong only says that it was read


def test_a_sign_counts_from_anew() -> None:
    script = Script()
    for _ in range(100):
        assert script.ping() == []
        script.lost.heard(1, script.now)
    assert script.seconds_until_lost() >= LOST_SECONDS - MOST_CREDIT_SECONDS


def test_a_request_that_may_not_have_been_read_is_not_lost() -> None:
    """It, or a part of it, still waits here behind other large messages."""
    script = Script()
    assert all(script.ping(behind_all=False) == [] for _ in range(200))


def test_a_reply_that_waits_behind_another_one_is_not_lost() -> None:
    script = Script()
    assert all(script.ping(arriving=True) == [] for _ in range(200))


def test_a_peer_that_was_stopped_and_goes_on_has_lost_nothing() -> None:
    script = Script()
    script.ping()
    assert script.ping(after=4.0) == []
    assert script.lost.wants_ping(script.now)
    script.lost.heard(1, script.now)
    assert not script.lost.wants_ping(script.now + QUIET_SECONDS / 2)


def test_only_what_was_asked_before_is_lost() -> None:
    script = Script()
    for _ in range(8):
        script.ping()
    script.lost.asked(3, script.now)
    assert script.seconds_until_lost() < 2.0
    script.lost.ended(1)
    assert script.ping() == []


def test_a_script_shows_itself() -> None:
    assert repr(Script().lost) == "LostRequests(1 requests, 0 pings)"


@given(st.lists(st.tuples(st.floats(0.01, 20.0), st.floats(0.0, 0.9)), max_size=200), st.floats(0.0, 30.0))
def test_who_says_working_between_any_two_pings_has_lost_nothing(pings: list[tuple[float, float]], away: float) -> None:
    """However far away it is and however irregular the Pings are: Pongs and signs come in the order in which they were sent."""
    lost = LostRequests()
    lost.asked(1, 0.0)
    sent, events = 0.0, []
    for gap, share in pings:
        sent += gap
        events += [(sent, 0, "ping"), (sent + away, 1, "pong"), (sent + away + share * gap, 2, "sign")]
    for moment, _, what in sorted(events):
        if what == "ping":
            lost.pinged(moment, True)
        elif what == "pong":
            assert lost.ponged(False) == []
        else:
            lost.heard(1, moment)


@given(st.lists(st.floats(0.01, 20.0), max_size=200))
def test_nothing_is_lost_before_five_pongs_and_five_seconds(gaps: list[float]) -> None:
    script = Script()
    began = script.now
    for number, gap in enumerate(gaps):
        if script.ping(gap):
            assert number >= LOST_SECONDS / MOST_CREDIT_SECONDS
            assert script.now - began >= LOST_SECONDS
            return


async def loses(message, exchange):
    """A handler that forgets its second step."""
    if message.step == 1:
        await asyncio.Event().wait()
    return await echo(message, exchange)


@pytest.mark.parametrize("latency", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("busy", [False, True])
def test_a_lost_request_fails_alone_and_soon(latency, busy):
    """Also while the channel is busy with other requests all the time."""

    async def main():
        async with memory_link(loses, latency=latency) as link:
            await link.channel.request(forward())
            began = now()
            asked = asyncio.create_task(link.channel.request(forward(step=1)))
            while not asked.done():
                if busy:
                    await link.channel.request(forward(step=2))
                await asyncio.sleep(0.1)
            with pytest.raises(e.PeerStalled, match="answers Pings and has said nothing of a request for 5 s"):
                await asked
            assert 5 <= now() - began < 9 + 4 * latency
            assert not link.channel.closed
            assert (await link.channel.request(forward(step=2))).load == LOAD

    run_virtual(main())


@pytest.mark.parametrize(("rate", "size"), [(20e3, 256 << 10), (125e3, 2 << 20)])
def test_replies_that_queue_on_a_slow_link_are_not_lost(rate, size):
    """The last of them has no byte on its way for half a minute or more, and nobody says Working for it any more."""

    async def main():
        async with memory_link(rate=rate, latency=0.1) as link:
            began = now()
            replies = await asyncio.gather(*(link.channel.request(forward(size, step, fill=step)) for step in range(3)))
            assert [reply.step for reply in replies] == [0, 1, 2]
            assert now() - began > 15

    run_virtual(main())


def test_a_long_computation_of_which_the_peer_speaks_is_not_lost():
    async def works(message, exchange):
        for _ in range(240):
            exchange.progress(Working(message.session_id, message.step, 1))
            await asyncio.sleep(0.5)
        return await echo(message, exchange)

    async def main():
        async with memory_link(works, latency=0.3) as link:
            assert (await link.channel.request(forward())).load == LOAD

    run_virtual(main())


def test_a_lost_renewal_is_noticed_too():
    async def never(message, exchange):
        await asyncio.Event().wait()

    async def main():
        async with memory_link(never) as link:
            with pytest.raises(e.PeerStalled):
                await link.channel.request(Renew(bytes(16)))

    run_virtual(main())


@pytest.mark.parametrize("stop", [1.0, 2.0, 2.9])
def test_a_peer_that_is_stopped_again_and_again_has_lost_nothing(stop):
    """It goes on for half a second each time, and in that time says that it works."""

    async def works(message, exchange):
        for _ in range(30):
            exchange.progress(Working(message.session_id, message.step, 1))
            await asyncio.sleep(0.4)
        return (
            Opened(message.session_id, 1.0, "", LOAD) if isinstance(message, Renew) else await echo(message, exchange)
        )

    async def main():
        async with memory_link(works) as link:
            asked = asyncio.create_task(link.channel.request(forward()))
            while not asked.done():
                link.hub.freeze(link.channel.peer_id)
                await asyncio.sleep(stop)
                link.hub.thaw(link.channel.peer_id)
                await asyncio.sleep(0.5)
            assert (await asked).load == LOAD

    run_virtual(main())
