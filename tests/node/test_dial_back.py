"""Whether a peer can be reached is tried at the very host that it asks from, and told in words where it cannot."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from support.clock import run_virtual
from support.links import CLIENT, WORKER, echo

from swarm.config import ChannelConfig
from swarm.errors import Overloaded, UsageFault
from swarm.identity import PeerId
from swarm.node.dial_back import MAX_AT_ONCE, Back
from swarm.trace import Trace
from swarm.transport.channels.server import ChannelServer
from swarm.transport.in_process import MemoryNetwork
from swarm.wire.messages import DialBack


def asked_by(peer_id: PeerId, host: str) -> Any:
    return SimpleNamespace(peer_id=peer_id, channel=SimpleNamespace(host=host))


def test_who_listens_with_its_key_is_reached_and_nobody_else() -> None:
    async def main() -> None:
        hub = MemoryNetwork()
        node = hub.node(WORKER.peer_id)
        back = Back(hub.node(CLIENT.peer_id), ChannelConfig(), Trace())
        async with ChannelServer(node, "", 0, echo, ChannelConfig(), Trace()) as server:
            at = node.address(server.port)
            told = await back.answer(DialBack(at.data, 0), asked_by(WORKER.peer_id, at.host))
            assert (told.host, told.fault, told.probed) == (at.host, "", False)
            other = await back.answer(DialBack(at.data, 0), asked_by(CLIENT.peer_id, at.host))
            assert "not" in other.fault
            await asyncio.sleep(1)
            assert not server.channels
        closed = await back.answer(DialBack(at.data, 0), asked_by(WORKER.peer_id, at.host))
        assert str(at.data) in closed.fault
        with pytest.raises(UsageFault, match="port 0"):
            await back.answer(DialBack(0, 0), asked_by(WORKER.peer_id, at.host))

    run_virtual(main())


def test_only_so_many_are_dialled_back_at_once_and_none_for_ever() -> None:
    async def main() -> None:
        hub = MemoryNetwork()
        node = hub.node(WORKER.peer_id)
        back = Back(hub.node(CLIENT.peer_id), ChannelConfig(), Trace())
        async with ChannelServer(node, "", 0, echo, ChannelConfig(), Trace()) as server:
            at = node.address(server.port)
            hub.freeze(WORKER.peer_id)
            asking = [
                asyncio.create_task(back.answer(DialBack(at.data, 0), asked_by(WORKER.peer_id, at.host)))
                for _ in range(MAX_AT_ONCE)
            ]
            await asyncio.sleep(0.1)
            with pytest.raises(Overloaded):
                await back.answer(DialBack(at.data, 0), asked_by(WORKER.peer_id, at.host))
            for told in await asyncio.gather(*asking):
                assert "did not answer within" in told.fault
            hub.thaw(WORKER.peer_id)
            assert not (await back.answer(DialBack(at.data, 0), asked_by(WORKER.peer_id, at.host))).fault

    run_virtual(main())
