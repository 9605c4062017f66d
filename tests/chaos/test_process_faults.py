"""Every fault, done to a real process: what it does, and that it can be ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable

import psutil
import pytest

from chaos import faults
from chaos.farm import Farm, Layout, Member
from chaos.faults import Cut, Fault, HalfOpen, Kill, Pause, Slow, Stop
from swarm.config import ChannelConfig
from swarm.errors import SwarmError
from swarm.identity import Identity
from swarm.records import Address
from swarm.transport.channels.dial import dial
from swarm.transport.tls.network import TlsNetwork

CHANNEL = ChannelConfig(connect_seconds=1.0)


async def answers(member: Member) -> bool:
    """Whether a channel to it can be made."""
    assert member.peer is not None
    address = Address.of("127.0.0.1", member.link.public)
    try:
        channel = await dial(TlsNetwork(Identity.generate()), (address,), member.peer, CHANNEL)
    except SwarmError:
        return False
    await channel.aclose()
    return True


def on_a_process(check: Callable[[Farm, Member], Awaitable[None]]) -> None:
    """A farm of a bootstrap alone, which starts in a second."""

    async def main() -> None:
        async with Farm(Layout(spans=1, replicas=0), model=None, layers=0) as farm:  # type: ignore[arg-type]
            await check(farm, farm.bootstraps[0])
            assert not farm.bootstraps[0].complaints()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_what_silences_a_process_and_brings_it_back() -> None:
    async def check(farm: Farm, member: Member) -> None:
        peer = member.peer
        for fault in (Kill(), Pause(), Cut(), Cut(("to",)), Cut(("back",)), HalfOpen(), Stop()):
            assert await answers(member), fault
            fault.apply(member)
            if not isinstance(fault, Stop):
                assert not await answers(member), fault
            await fault.undo(member)
            assert member.serving
        assert member.peer == peer
        assert await answers(member)

    on_a_process(check)


def test_what_changes_a_link_leaves_nothing_behind() -> None:
    async def check(farm: Farm, member: Member) -> None:
        before = (member.link.to.weather, member.link.pipes.cut_after)
        for name in ("Bandwidth", "Delay", "Duplicate", "Flip", "LoseReply", "Loss", "Reorder", "Slice"):
            fault: Fault = getattr(faults, name)()
            fault.apply(member)
            assert (member.link.to.weather, member.link.pipes.cut_after) != before, name
            assert fault.name
            await fault.undo(member)
            assert (member.link.to.weather, member.link.pipes.cut_after) == before, name

    on_a_process(check)


def test_a_slow_process_is_stopped_most_of_the_time() -> None:
    async def check(farm: Farm, member: Member) -> None:
        fault = Slow(factor=10.0)
        fault.apply(member)
        stopped = 0
        for _ in range(40):
            await asyncio.sleep(0.007)
            stopped += psutil.Process(member.pid).status() == psutil.STATUS_STOPPED
        assert 25 <= stopped <= 40
        await fault.undo(member)
        assert await answers(member)

    on_a_process(check)


def test_processes_leave_with_whoever_started_them() -> None:
    program = """
import asyncio
from chaos.farm import Farm, Layout
async def main():
    async with Farm(Layout(spans=1, replicas=0), None, 0) as farm:
        print(farm.members[0].pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        psutil.wait_procs([child], timeout=10)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout is not None:
            parent.stdout.close()


@pytest.mark.parametrize("name", [name for name in dir(faults) if name[0].isupper() and name not in ("Fault", "Kind")])
def test_a_fault_says_what_it_is(name: str) -> None:
    fault: Fault = getattr(faults, name)()
    assert fault.name
    assert fault.kind in ("crash", "stall", "link", "lie")
