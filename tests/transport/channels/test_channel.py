"""Requests, replies and errors over channels."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import run_virtual
from support.links import CLIENT, LOAD, SESSION, WORKER, echo, forward, memory_link, now
from support.strategies import forwards

from swarm import errors as e
from swarm.config import ChannelConfig
from swarm.trace import Trace
from swarm.transport.channels.dial import dial
from swarm.transport.channels.server import ChannelServer
from swarm.transport.in_process import MemoryNetwork
from swarm.wire import messages as m


async def never(message, exchange):
    await asyncio.Event().wait()


@given(st.lists(forwards, min_size=1, max_size=6))
@settings(max_examples=25)
def test_requests_are_answered_each_with_its_own_reply(asked):
    async def main():
        async with memory_link(latency=0.01) as link:
            replies = await asyncio.gather(*map(link.channel.request, asked))
            for message, reply in zip(asked, replies, strict=True):
                assert (reply.step, reply.tensor) == (message.step, message.tensor)

    run_virtual(main())


def test_both_sides_may_ask():
    async def main():
        hub = MemoryNetwork()
        node = hub.node(WORKER.peer_id)
        config = ChannelConfig()
        async with ChannelServer(node, "0.0.0.0", 0, echo, config, Trace()) as server:
            address = node.address(server.port)
            channel = await dial(hub.node(CLIENT.peer_id), [address], WORKER.peer_id, config, handler=echo)
            (far,) = server.channels
            here, there = await asyncio.gather(channel.request(forward(9000)), far.request(forward(300)))
            assert here.tensor.data.nbytes == 9000
            assert there.tensor.data.nbytes == 300
            await channel.aclose()

    run_virtual(main())


def test_a_client_serves_nothing_by_default():
    async def main():
        async with memory_link() as link:
            with pytest.raises(e.PeerFault, match="serves nothing"):
                await link.far.request(m.Renew(SESSION))

    run_virtual(main())


def test_working_is_heard_before_the_reply():
    async def slow(message, exchange):
        assert exchange.peer_id == CLIENT.peer_id
        for queue in (3, 2, 1):
            exchange.progress(m.Working(message.session_id, message.step, queue))
            await asyncio.sleep(2.9)
        return await echo(message, exchange)

    async def main():
        heard = []
        async with memory_link(slow) as link:
            await link.channel.request(forward(), lambda working: heard.append(working.queue_rows))
        assert heard == [3, 2, 1]

    run_virtual(main())


def test_a_callback_that_fails_fails_its_own_request_alone():
    async def working(message, exchange):
        exchange.progress(m.Working(message.session_id, message.step, 1))
        return await echo(message, exchange)

    async def main():
        async with memory_link(working) as link:
            with pytest.raises(ZeroDivisionError):
                await link.channel.request(forward(), lambda _: 1 / 0)
            await link.channel.request(forward())

    run_virtual(main())


@pytest.mark.parametrize(
    ("raised", "seen", "says"),
    [
        (e.Overloaded("2 GB asked, 1 GB free", 2.5), e.Overloaded, "2 GB asked"),
        (e.Draining("bye"), e.Draining, "bye"),
        (e.SessionFault("lapsed"), e.SessionFault, "lapsed"),
        (e.UsageFault("wrong shape"), e.PeerFault, "wrong shape"),
    ],
)
def test_an_error_of_the_handler_is_the_asker_s(raised, seen, says):
    async def refuse(message, exchange):
        raise raised

    async def main():
        async with memory_link(refuse) as link:
            with pytest.raises(seen, match=says) as caught:
                await link.channel.request(forward())
            assert type(caught.value) is seen
            assert not link.channel.closed
            assert [event for event in link.events if event.phase == "failed"] == []

    run_virtual(main())


def test_a_bug_in_the_handler_is_logged_and_others_go_on(caplog):
    async def buggy(message, exchange):
        if message.step == 1:
            raise KeyError("our secret")
        if message.step == 2:
            return m.Closed(SESSION)  # answers no Forward
        return await echo(message, exchange)

    async def main():
        async with memory_link(buggy) as link:
            for step in (1, 2):
                with pytest.raises(e.PeerFault, match="failed on its side") as caught:
                    await link.channel.request(forward(step=step))
                assert "our secret" not in str(caught.value)
            assert (await link.channel.request(forward())).load == LOAD
            assert [event.name for event in link.events if event.phase == "failed"] == ["channel.serve"] * 2

    run_virtual(main())
    assert "KeyError" in caplog.text
    assert "LocalFault" in caplog.text


def test_a_cancelled_request_is_forgotten_and_its_late_reply_ignored():
    async def slow(message, exchange):
        await asyncio.sleep(1)
        return await echo(message, exchange)

    async def main():
        async with memory_link(slow) as link:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(link.channel.request(forward()), 0.5)
            assert (await link.channel.request(forward(step=7))).step == 7
            assert link.channel._connection.unanswered == 0

    run_virtual(main())


def test_requests_beyond_the_cap_are_refused_before_they_are_sent():
    async def main():
        async with memory_link(never, ChannelConfig(max_streams=2)) as link:
            asked = [asyncio.create_task(link.channel.request(forward())) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(e.Overloaded, match="2 requests"):
                await link.channel.request(forward())
            link.channel.abort("enough")
            assert all("enough" in str(fault) for fault in await asyncio.gather(*asked, return_exceptions=True))

    run_virtual(main())


def test_a_full_outbox_makes_the_asker_wait():
    async def main():
        async with memory_link(rate=1e6, config=ChannelConfig(max_outbox_bytes=1 << 20)) as link:
            asked = [asyncio.create_task(link.channel.request(forward(1 << 20))) for _ in range(6)]
            await asyncio.sleep(0)
            assert link.channel._sender.crowded
            most = 0
            while not all(task.done() for task in asked):
                most = max(most, link.channel._sender.pending)
                await asyncio.sleep(0.1)
            assert most < 4 << 20
            waiting = [asyncio.create_task(link.channel.request(forward(1 << 20))) for _ in range(6)]
            await asyncio.sleep(0)
            link.hub.kill(WORKER.peer_id)
            assert {type(fault) for fault in await asyncio.gather(*waiting, return_exceptions=True)} == {e.PeerLost}

    run_virtual(main())


def test_nothing_is_served_any_more_when_a_server_has_closed_whatever_became_of_the_channel():
    async def main():
        hub = MemoryNetwork()
        client, worker = hub.node(CLIENT.peer_id), hub.node(WORKER.peer_id)
        asked = asyncio.Event()

        async def handler(message, exchange):
            asked.set()
            await asyncio.Event().wait()

        async with ChannelServer(worker, "0.0.0.0", 0, handler, ChannelConfig(), Trace()) as server:
            channel = await dial(client, [worker.address(server.port)], WORKER.peer_id, ChannelConfig())
            asking = asyncio.create_task(channel.request(forward()))
            await asked.wait()
            hub.kill(WORKER.peer_id)
            with pytest.raises(e.PeerLost):
                await asking
            await channel.aclose()
            assert not server.channels
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


@pytest.mark.parametrize("round_trip", [1.0, 3.0])
def test_a_long_link_is_given_time_and_silence_is_not(round_trip: float):
    async def main():
        hub = MemoryNetwork(latency=round_trip / 2)
        client, worker = hub.node(CLIENT.peer_id), hub.node(WORKER.peer_id)
        config = ChannelConfig()
        async with ChannelServer(worker, "0.0.0.0", 0, echo, config, Trace()) as server:
            channel = await dial(client, [worker.address(server.port)], WORKER.peer_id, config)
            await channel.aclose()
            hub.freeze(WORKER.peer_id)
            began = now()
            with pytest.raises(e.PeerLost, match=r"did not answer within 4\.0 s"):
                await dial(client, [worker.address(server.port)], WORKER.peer_id, config)
            assert now() - began == config.connect_seconds

    run_virtual(main())


def test_dial_names_every_address_and_why():
    async def main():
        hub = MemoryNetwork()
        client, worker = hub.node(CLIENT.peer_id), hub.node(WORKER.peer_id)
        config = ChannelConfig()
        async with ChannelServer(worker, "0.0.0.0", 0, echo, config, Trace()) as server:
            good, bad = worker.address(server.port), worker.address(9)
            channel = await dial(client, [bad, good], WORKER.peer_id, config)
            await channel.aclose()
            hub.freeze(WORKER.peer_id)
            began = now()
            with pytest.raises(e.PeerLost) as caught:
                await dial(client, [good, bad], WORKER.peer_id, config)
            assert now() - began <= config.connect_seconds
            assert f"{good} did not answer within 2.0 s" in str(caught.value)
            assert str(bad) in str(caught.value)
            hub.thaw(WORKER.peer_id)
            with pytest.raises(e.PeerLost, match="no address"):
                await dial(client, [], WORKER.peer_id, config)

    run_virtual(main())
