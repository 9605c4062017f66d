"""What a worker signs, and when: checked against what was sent and what came back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.clock import run_virtual
from support.models import make_model
from support.swarm import LocalSwarm

from swarm.config import ChannelConfig
from swarm.errors import PeerFault
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.transport.channels.channel import Channel
from swarm.transport.channels.dial import dial
from swarm.wire.messages import Close, Closed, Forward, Open, Result
from swarm.wire.receipts import RECEIPT_ROWS, Receipt, Tally
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor
from swarm.worker import receipts as worker_receipts

NAME = b"n" * 16
HIDDEN = 64
SPAN = LayerSpan(2, 3)  # of a worker that holds more


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), hidden_size=HIDDEN)


class Session:
    """A session that keeps a tally of what it sent and got."""

    def __init__(self, swarm: LocalSwarm, channel: Channel) -> None:
        self.worker = swarm.workers[0]
        self.channel = channel
        self.tally = Tally(NAME, SPAN, swarm.model.digest, self.worker.service.stage.numerics)
        self.step = 0

    async def open(self) -> None:
        await self.channel.request(Open(NAME, self.tally.model_digest, SPAN, "fp32", 300))

    def asking(self, position: int, count: int, rows: Rows) -> Forward:
        data = b"".join(bytes([position + index & 0xFF, self.step & 0xFF, 0, 63]) * HIDDEN for index in range(count))
        self.step += 1
        return Forward(NAME, self.step, position, rows, Tensor("fp32", (count, HIDDEN), memoryview(data)))

    async def send(self, position: int, count: int = 1, rows: Rows = Rows.DECODE) -> Receipt | None:
        """The receipt of these rows, which is true and due, or none is."""
        asked = self.asking(position, count, rows)
        result = await self.channel.request(asked)
        assert isinstance(result, Result)
        self.tally.add(position, asked.tensor, result.tensor)
        if self.tally.due(rows):
            return self.tally.check(result.receipt, self.worker.peer_id)
        assert result.receipt is None
        return None

    async def close(self) -> Receipt | None:
        closed = await self.channel.request(Close(NAME))
        assert isinstance(closed, Closed)
        return closed.receipt


@asynccontextmanager
async def a_session(model: Path) -> AsyncIterator[Session]:
    async with LocalSwarm(model, [(1, 3)]) as swarm:
        identity = Identity.from_seed(b"c" * 32)
        worker = swarm.workers[0]
        channel = await dial(swarm.hub.node(identity.peer_id), (worker.address,), worker.peer_id, ChannelConfig())
        session = Session(swarm, channel)
        await session.open()
        yield session
        await channel.aclose()


def rows_of(receipt: Receipt | None) -> tuple[int, int] | None:
    return (receipt.start, receipt.stop) if receipt else None


def test_each_chunk_is_signed_and_every_32nd_decode_row_and_the_rest_at_the_end(model: Path) -> None:
    async def main() -> None:
        async with a_session(model) as session:
            assert rows_of(await session.send(0, 128, Rows.CHUNK)) == (0, 128)
            assert rows_of(await session.send(128, 7, Rows.CHUNK)) == (128, 135)
            signed = [rows_of(await session.send(135 + index)) for index in range(70)]
            assert [rows for rows in signed if rows] == [(135, 167), (167, 199)]
            rest = session.tally.check(await session.close(), session.worker.peer_id)
            assert rows_of(rest) == (199, 205)
            assert await session.close() is None

    run_virtual(main())


def test_a_session_whose_rows_are_all_signed_ends_without_a_receipt(model: Path) -> None:
    async def main() -> None:
        async with a_session(model) as session:
            await session.send(0, 5, Rows.CHUNK)
            assert await session.close() is None
            await session.open()
            assert await session.close() is None  # no row at all

    run_virtual(main())


def test_one_receipt_covers_a_bulk_of_decode_rows_and_those_that_waited(model: Path) -> None:
    async def main() -> None:
        async with a_session(model) as session:
            assert await session.send(0, RECEIPT_ROWS - 1) is None
            assert rows_of(await session.send(31, 64)) == (0, 95)
            assert await session.send(95) is None
            assert rows_of(await session.send(96, 10, Rows.CHUNK)) == (95, 106)

    run_virtual(main())


def test_a_repeated_step_gives_the_same_answer_with_the_same_receipt_and_counts_once(model: Path) -> None:
    async def main() -> None:
        async with a_session(model) as session:
            await session.send(0, 31)
            asked = session.asking(31, 1, Rows.DECODE)
            first = await session.channel.request(asked)
            again = await session.channel.request(asked)
            assert isinstance(first, Result)
            assert first == again
            session.tally.add(31, asked.tensor, first.tensor)
            assert rows_of(session.tally.check(first.receipt, session.worker.peer_id)) == (0, 32)
            await session.send(32)
            assert rows_of(session.tally.check(await session.close(), session.worker.peer_id)) == (32, 33)

    run_virtual(main())


@pytest.mark.parametrize("kind", list(Rows))
def test_rows_whose_answer_was_never_read_are_counted_anew(model: Path, kind: Rows) -> None:
    async def main() -> None:
        async with a_session(model) as session:
            await session.send(0, 3, Rows.CHUNK)
            await session.send(3, 31)
            for _ in range(3):  # each brings a receipt that nobody reads
                await session.channel.request(session.asking(34, 1, kind))
            assert rows_of(await session.send(34, 1, kind)) == (3, 35)
            assert rows_of(await session.send(35, 2, Rows.CHUNK)) == (35, 37)

    run_virtual(main())


@pytest.mark.parametrize(("back", "start"), [(35, 35), (34, 3), (10, 3), (3, 3), (1, 1), (0, 0)])
def test_a_rollback_is_followed(model: Path, back: int, start: int) -> None:
    """As far as the last receipt's rows, which wait for another then; those before them were signed long ago."""

    async def main() -> None:
        async with a_session(model) as session:
            await session.send(0, 3, Rows.CHUNK)
            await session.send(3, 32)
            await session.send(35, 5)
            assert rows_of(await session.send(back, 40)) == (start, back + 40)

    run_virtual(main())


def test_a_step_that_failed_is_not_counted(model: Path) -> None:
    async def main() -> None:
        async with a_session(model) as session:
            await session.send(0, 3)
            stage = session.worker.service.stage
            honest = stage.decode

            def broken(work: object) -> object:
                raise RuntimeError("the test breaks the engine")

            stage.decode = broken  # type: ignore[method-assign, assignment]
            with pytest.raises(PeerFault, match="failed on its side"):
                await session.send(3, 40)
            stage.decode = honest  # type: ignore[method-assign]
            assert rows_of(await session.send(3, 40)) == (0, 43)

    run_virtual(main())


def test_rows_that_take_long_to_hash_are_hashed_beside_the_event_loop(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_receipts, "INLINE_BYTES", 0)

    async def main() -> None:
        async with a_session(model) as session:
            assert rows_of(await session.send(0, 100, Rows.CHUNK)) == (0, 100)
            assert rows_of(await session.send(100, 40)) == (100, 140)

    run_virtual(main())
