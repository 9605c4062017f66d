"""A worker whose layers keep states: what it undoes, what it refuses to, and that neighbours' failures leave no trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch
from support.clock import run_virtual
from support.families_recurrent import CONFIGS
from support.models import make_model_of
from support.swarm import LocalSwarm

from swarm.config import ChannelConfig
from swarm.engine import SessionCache
from swarm.errors import Gap, PeerFault, SessionFault
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.wire.messages import Forward, Open, Opened, Result
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

HIDDEN = 100
SPAN = LayerSpan(0, 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_of(tmp_path_factory.mktemp("model"), CONFIGS["qwen3-next-odd"])


class Peer:
    """A session by hand. What it is asked at a position are the same rows each time, unless `other` says so."""

    def __init__(self, swarm: LocalSwarm, channel: Channel, name: bytes) -> None:
        self.swarm, self.channel, self.name = swarm, channel, name
        self.step = 0

    async def open(self, parent: bytes | None = None, rows: int = 0) -> Opened:
        opening = Open(self.name, self.swarm.model.digest, SPAN, "fp32", 1100, parent, rows)
        reply = await self.channel.request(opening)
        assert isinstance(reply, Opened)
        return reply

    async def ask(self, position: int, rows: int, kind: Rows = Rows.DECODE, other: int = 0) -> bytes:
        """The answer's bits."""
        data = torch.sin(torch.arange(rows * HIDDEN) + 7 * position + 1000 * other).numpy().tobytes()
        step, self.step = self.step, self.step + 1
        tensor = Tensor("fp32", (rows, HIDDEN), memoryview(data))
        result = await self.channel.request(Forward(self.name, step, position, kind, tensor))
        assert isinstance(result, Result)
        return bytes(result.tensor.data)

    @property
    def cache(self) -> SessionCache:
        service = self.swarm.workers[0].service
        return next(slot.cache for slot in service._sessions if slot.session_id == self.name)  # type: ignore[return-value]


@asynccontextmanager
async def worker(model: Path, peers: int = 1) -> AsyncIterator[list[Peer]]:
    """Sessions of one client at one worker, open."""
    async with LocalSwarm(model, [(0, 3)]) as swarm:
        identity, address = Identity.from_seed(bytes([99]) * 32), swarm.workers[0].address
        node = swarm.hub.node(identity.peer_id)
        channel = await dial(node, (address,), swarm.workers[0].peer_id, ChannelConfig())
        sessions = [Peer(swarm, channel, bytes([number]) * 16) for number in range(peers)]
        for session in sessions:
            await session.open()
        yield sessions
        await channel.aclose()


def test_the_last_call_can_be_undone(model: Path) -> None:
    async def main() -> None:
        async with worker(model, 2) as (peer, straight):
            heard = [await straight.ask(0, 30, Rows.CHUNK)]
            heard += [await straight.ask(position, 1) for position in range(30, 34)]
            await peer.ask(0, 17, Rows.CHUNK, other=1)
            assert await peer.ask(0, 30, Rows.CHUNK) == heard[0]
            for position in range(30, 34):
                await peer.ask(position, 3, other=1)
                await peer.ask(position, 1, other=2)
                assert await peer.ask(position, 1) == heard[position - 29]

    run_virtual(main())


def test_a_bulk_replay_gives_the_bits_of_single_steps(model: Path) -> None:
    async def main() -> None:
        async with worker(model, 2) as (peer, bulk):
            single = [await peer.ask(position, 1) for position in range(70)]
            data = torch.cat([torch.sin(torch.arange(HIDDEN) + 7 * position) for position in range(70)])
            tensor = Tensor("fp32", (70, HIDDEN), memoryview(data.numpy().tobytes()))
            result = await bulk.channel.request(Forward(bulk.name, 0, 0, Rows.DECODE, tensor))
            assert isinstance(result, Result)
            assert bytes(result.tensor.data) == b"".join(single)

    run_virtual(main())


def test_what_cannot_be_undone_is_refused_and_the_session_goes_on(model: Path) -> None:
    async def main() -> None:
        async with worker(model, 2) as (peer, straight):
            for session in (peer, straight):
                await session.ask(0, 128, Rows.CHUNK)
                for position in range(128, 134):
                    await session.ask(position, 1)
            for position in (5, 127, 129, 130):
                with pytest.raises(SessionFault, match=f"cannot go back from 134 to {position}"):
                    await peer.ask(position, 1)
            with pytest.raises(Gap):
                await peer.ask(135, 1)
            assert await peer.ask(134, 1) == await straight.ask(134, 1)
            again = [await peer.ask(128, 1, other=1), await straight.ask(128, 1, other=1)]  # where whole chunks end
            assert again[0] == again[1]
            await peer.ask(0, 128, Rows.CHUNK)  # from the beginning, as ever
            assert [await peer.ask(128, 1, other=1)] == again[:1]

    run_virtual(main())


def test_a_neighbour_that_fails_in_the_midst_of_a_batch_leaves_no_trace(model: Path) -> None:
    async def rounds(spoil: bool) -> list[bytes]:
        heard = []
        async with worker(model, 2) as peers:
            heard += [await peer.ask(0, 20, Rows.CHUNK) for peer in peers]
            for position in range(20, 26):
                if spoil and position == 23:
                    cache = peers[0].cache

                    def broken(position: int, cache: SessionCache = cache) -> object:
                        for _, memory in cache._states._under_way(position)[1].layers:  # as if some had been written
                            memory.fill_(torch.nan)
                        raise MemoryError

                    cache.state_places = broken  # type: ignore[method-assign,assignment]
                    failed, good = await asyncio.gather(*(p.ask(position, 1) for p in peers), return_exceptions=True)
                    assert isinstance(failed, Exception)
                    assert not isinstance(failed, PeerFault)  # overloaded, not broken
                    assert isinstance(good, bytes)
                    del cache.state_places  # type: ignore[method-assign]
                    heard += [await peers[0].ask(position, 1), good]
                else:
                    heard += await asyncio.gather(*(peer.ask(position, 1) for peer in peers))
        return heard

    async def main() -> None:
        assert await rounds(spoil=True) == await rounds(spoil=False)

    run_virtual(main())


def test_a_parent_gives_as_many_rows_as_it_has_a_state_of(model: Path) -> None:
    async def main() -> None:
        async with worker(model) as (parent,):
            for position in range(0, 1024, 128):
                await parent.ask(position, 128, Rows.CHUNK)
            for position in range(1024, 1027):
                await parent.ask(position, 1)
            given = []
            for number, asked in enumerate((1024, 896, 640, 500)):
                child = Peer(parent.swarm, parent.channel, bytes([50 + number]) * 16)
                given.append((await child.open(parent.name, asked)).position)
                straight = Peer(parent.swarm, parent.channel, b"s" * 16)
                await straight.open()
                for position in range(0, given[-1], 128):
                    await straight.ask(position, 128, Rows.CHUNK)
                assert await child.ask(given[-1], 1) == await straight.ask(given[-1], 1)
            assert given == [1024, 640, 640, 384]
            refused = Peer(parent.swarm, parent.channel, b"r" * 16)
            for rows in (1, 256, 1028):
                with pytest.raises(SessionFault, match=f"has no {rows} rows"):
                    await refused.open(parent.name, rows)
            assert len(parent.swarm.workers[0].service._sessions) == 6

    run_virtual(main())
