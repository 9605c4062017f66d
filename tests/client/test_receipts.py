"""A worker that does not sign the very rows that it sends is left, and the tokens stay exact."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.answers import PROMPT, ask, unsplit
from support.clock import run_virtual
from support.swarm import LocalSwarm, LocalWorker

from swarm.client.generate import Options
from swarm.client.hops import receipts as hop_receipts
from swarm.client.hops.history import Entry, History
from swarm.client.hops.session import HopSession
from swarm.client.room import Room
from swarm.client.session import ChainSession
from swarm.errors import AuditFault
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.trace import Event, Trace
from swarm.wire.messages import Close, Closed, Forward, Result
from swarm.wire.receipts import Receipt, row_digests, sign_receipt
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

OPTIONS = Options(max_tokens=40, ignore_eos=True)
CHUNK = 128  # position of the second chunk
LAST = len(PROMPT) + 31  # of the decode row that brings a receipt
HIDDEN = 64

Lie = Callable[[LocalWorker, Result], Result]


@pytest.fixture(scope="module")
def expected(model: Path) -> list[int]:
    return asyncio.run(unsplit(model, PROMPT, OPTIONS))


def lying(swarm: LocalSwarm, position: int, lie: Lie) -> list[LocalWorker]:
    """The first worker that is asked for rows at `position` tells `lie` about them; returns who it was."""
    liars: list[LocalWorker] = []

    def handler(worker: LocalWorker) -> Any:
        async def handle(message: Any, exchange: Any) -> Any:
            reply = await worker.service.handle(message, exchange)
            if isinstance(message, Forward) and message.position == position and (not liars or worker in liars):
                liars.append(worker)
                return lie(worker, reply)
            return reply

        return handle

    for worker in swarm.workers:
        worker.handler = handler(worker)
    return liars


def other_rows(worker: LocalWorker, reply: Result) -> Result:
    data = bytearray(reply.tensor.data)
    data[0] ^= 1  # the lowest bit of a mantissa
    return replace(reply, tensor=replace(reply.tensor, data=memoryview(data)))


def signing(**changes: object) -> Lie:
    """It signs, properly, something else."""

    def lie(worker: LocalWorker, reply: Result) -> Result:
        receipt = reply.receipt
        assert receipt is not None
        fields = {name: getattr(receipt, name) for name in Receipt.__slots__ if name != "signature"}
        return replace(reply, receipt=sign_receipt(worker.identity, **(fields | changes)))

    return lie


def omitting(worker: LocalWorker, reply: Result) -> Result:
    return replace(reply, receipt=None)


def by_a_stranger(worker: LocalWorker, reply: Result) -> Result:
    assert reply.receipt is not None
    forged = Identity.from_seed(b"f" * 32).sign(reply.receipt.body())
    return replace(reply, receipt=replace(reply.receipt, signature=forged))


LIES: dict[str, tuple[Lie, str]] = {
    "other rows than it signs": (other_rows, "signed other outputs"),
    "another span": (signing(span=LayerSpan(0, 3)), "signed other span"),
    "another start": (signing(start=1), "signed other start"),
    "another end": (signing(stop=1000), "signed other stop"),
    "another model": (signing(model_digest=bytes(32)), "signed other model_digest"),
    "another session": (signing(session_id=bytes(16)), "signed other session_id"),
    "other inputs": (signing(inputs=bytes(32)), "signed other inputs"),
    "another numerics class": (signing(numerics="bf16/other"), "signed other numerics"),
    "a forged signature": (by_a_stranger, "did not sign"),
    "no receipt": (omitting, "gave no receipt for rows"),
}


@pytest.mark.parametrize("position", [0, CHUNK, LAST])
@pytest.mark.parametrize("name", LIES)
def test_a_worker_whose_receipt_is_wrong_or_missing_is_left(
    model: Path, expected: list[int], name: str, position: int
) -> None:
    lie, cause = LIES[name]

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4), (0, 4)]) as swarm, swarm.client() as client:
            liars = lying(swarm, position, lie)
            answer = await ask(client, PROMPT, OPTIONS)
            assert answer.token_ids == expected
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert recovery.peer_id == liars[0].peer_id
            assert cause in recovery.cause
            assert answer.session.exact  # type: ignore[union-attr]

    run_virtual(main())


def test_a_worker_that_repeats_an_old_receipt_is_left(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4), (0, 4)]) as swarm, swarm.client() as client:
            old: list[Receipt] = []

            def repeat(worker: LocalWorker, reply: Result) -> Result:
                return replace(reply, receipt=old[0])

            liars = lying(swarm, LAST, repeat)
            for worker in swarm.workers:
                lie = worker.handler
                assert lie is not None

                async def watch(message: Any, exchange: Any, lie: Any = lie) -> Any:
                    reply = await lie(message, exchange)
                    if isinstance(reply, Result) and reply.receipt is not None:
                        old.append(reply.receipt)
                    return reply

                worker.handler = watch
            answer = await ask(client, PROMPT, OPTIONS)
            assert answer.token_ids == expected
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert recovery.peer_id == liars[0].peer_id
            assert "signed other start" in recovery.cause

    run_virtual(main())


def test_a_worker_that_signs_when_nothing_is_due_is_left(model: Path, expected: list[int]) -> None:
    async def main() -> None:
        async with LocalSwarm(model, [(0, 4), (0, 4)]) as swarm, swarm.client() as client:

            def early(worker: LocalWorker, reply: Result) -> Result:
                identity = worker.identity
                spans = (bytes(16), LayerSpan(0, 4), 140, 146, bytes(32), bytes(32), bytes(32), "fp32")
                return replace(reply, receipt=sign_receipt(identity, *spans))

            lying(swarm, 145, early)
            answer = await ask(client, PROMPT, OPTIONS)
            assert answer.token_ids == expected
            (recovery,) = answer.session.recoveries  # type: ignore[union-attr]
            assert "a receipt that is not due" in recovery.cause

    run_virtual(main())


def test_rows_that_were_used_before_their_receipt_showed_the_lie_end_the_session(model: Path) -> None:
    """What others compute from the same inputs contradicts the answer so far: it is not continued."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)] * 3) as swarm, swarm.client() as client:
            lying(swarm, 145, other_rows)
            with pytest.raises(AuditFault, match="computed different rows"):
                await ask(client, PROMPT, OPTIONS)

    run_virtual(main())


@asynccontextmanager
async def a_session(swarm: LocalSwarm, trace: Trace | None = None) -> AsyncIterator[ChainSession]:
    async with swarm.client(trace) as client:
        peers = client._parts.peers
        assert peers is not None
        chain = await client.resolver.first_chain()
        async with ChainSession(
            client.resolver, peers, swarm.client_config, client.trace, chain, "fp32", Room.whole(300)
        ) as session:
            yield session


def rows(position: int, count: int = 1) -> Tensor:
    data = b"".join(bytes([position + index & 0xFF, 1, 0, 63]) * HIDDEN for index in range(count))
    return Tensor("fp32", (count, HIDDEN), memoryview(data))


async def fill(session: ChainSession, decoded: int) -> History:
    """Two chunks and so many decode rows; returns what the session was given."""
    given = History()
    for count in (128, 5, *[1] * decoded):
        kind = Rows.CHUNK if count > 1 else Rows.DECODE
        tensor = rows(session.position, count)
        given.append(Entry(kind, session.position, tensor))
        await session.step(kind, tensor)
    return given


def digest(history: History, receipt: Receipt) -> bytes:
    count = receipt.stop - receipt.start
    data = history.bytes_at(receipt.start, count)
    return hashlib.sha256(row_digests(Tensor("fp32", (count, HIDDEN), memoryview(data)))).digest()


def covered(link: HopSession) -> list[tuple[int, int]]:
    return [(receipt.start, receipt.stop) for receipt in link.receipts]


@pytest.mark.parametrize("beside", [False, True], ids=["inline", "in a thread"])
def test_every_row_has_one_receipt_in_the_end_and_each_proves_what_it_says(
    model: Path, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if beside:
        monkeypatch.setattr(hop_receipts, "INLINE_BYTES", 0)

    async def main() -> None:
        async with LocalSwarm(model, [(0, 1), (1, 4)]) as swarm:
            async with a_session(swarm) as session:
                given = await fill(session, 40)
                await session._settle()
                links, between, outputs = list(session._links), session._links[1].inputs, session._outputs
                assert all(covered(link) == [(0, 128), (128, 133), (133, 165)] for link in links)
            for link, inputs, answered in ((links[0], given, between), (links[1], between, outputs)):
                assert covered(link) == [(0, 128), (128, 133), (133, 165), (165, 173)]
                numerics = swarm.worker(link.hop.peer_id.short).service.stage.numerics
                for receipt in link.receipts:
                    assert receipt.verify(link.hop.peer_id)
                    assert (receipt.span, receipt.model_digest) == (link.hop.span, swarm.model.digest)
                    assert receipt.numerics == numerics
                    assert digest(inputs, receipt) == receipt.inputs
                    assert digest(answered, receipt) == receipt.outputs

    run_virtual(main())


def test_what_counts_is_the_numerics_class_that_the_worker_named_when_the_session_opened(model: Path) -> None:
    """Its record is older, and it may be another's choice of threads by the next session."""

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)]) as swarm:
            stage = swarm.workers[0].service.stage
            stage.numerics = "fp32/since its record"
            async with a_session(swarm) as session:
                stage.numerics = "fp32/since the session opened"
                await fill(session, 32)
                (link,) = session._links
                assert {receipt.numerics for receipt in link.receipts} == {"fp32/since its record"}

    run_virtual(main())


def test_a_step_that_is_tried_again_leaves_an_honest_worker_in_peace(model: Path) -> None:
    """Whoever leaves a step may leave an answer, with its receipt, that nobody reads."""

    async def main() -> None:
        events: list[Event] = []
        async with LocalSwarm(model, [(0, 2), (2, 4)]) as swarm:
            async with a_session(swarm, Trace(events.append)) as session:
                for at, kind, count in ((0, Rows.CHUNK, 128), (128, Rows.CHUNK, 5), (133, Rows.DECODE, 40)):
                    for index in range(count if kind is Rows.DECODE else 1):
                        position = at + index
                        tensor = rows(position, 1 if kind is Rows.DECODE else count)
                        for lost in swarm.workers:
                            await _abandoned(session, lost, kind, tensor)
                            assert session.position == position
                        await session.step(kind, tensor)
                links = list(session._links)
                assert session.recoveries == []
            for link in links:
                assert covered(link) == [(0, 128), (128, 133), (133, 165), (165, 173)]
            assert not [event for event in events if event.name == "hop.receipt"]

    run_virtual(main())


async def _abandoned(session: ChainSession, lost: LocalWorker, kind: Rows, tensor: Tensor) -> None:
    """A step whose caller leaves when `lost` has computed its rows and before it answers."""
    computed = asyncio.Event()

    async def mute(message: Any, exchange: Any) -> Any:
        reply = await lost.service.handle(message, exchange)
        computed.set()
        await asyncio.sleep(1)
        return reply

    lost.handler = mute
    step = asyncio.create_task(session.step(kind, tensor))
    await computed.wait()
    step.cancel()
    await asyncio.wait({step})
    lost.handler = None


@pytest.mark.parametrize(
    ("lie", "error"),
    [
        (lambda closed: Closed(closed.session_id), "gave no receipt for rows 133 to 136"),
        (lambda closed: replace(closed, receipt=replace(closed.receipt, signature=bytes(64))), "did not sign"),
        (lambda closed: replace(closed, receipt=replace(closed.receipt, stop=140)), "signed other stop"),
    ],
)
def test_a_last_receipt_that_is_wrong_is_not_kept_and_told(
    model: Path, lie: Callable[[Closed], Closed], error: str
) -> None:
    async def main() -> None:
        events: list[Event] = []
        async with LocalSwarm(model, [(0, 4)]) as swarm:
            (worker,) = swarm.workers

            async def handle(message: Any, exchange: Any) -> Any:
                reply = await worker.service.handle(message, exchange)
                return lie(reply) if isinstance(message, Close) else reply

            worker.handler = handle
            async with a_session(swarm, Trace(events.append)) as session:
                await fill(session, 3)
                (link,) = session._links
            assert covered(link) == [(0, 128), (128, 133)]
            (event,) = [event for event in events if event.name == "hop.receipt"]
            assert error in event.details["error"]

    run_virtual(main())


def test_a_session_that_is_left_in_mid_step_blames_nobody(model: Path) -> None:
    async def main() -> None:
        events: list[Event] = []
        async with LocalSwarm(model, [(0, 4)]) as swarm:
            async with a_session(swarm, Trace(events.append)) as session:
                await fill(session, 3)
                (link,) = session._links
                await _abandoned(session, swarm.workers[0], Rows.DECODE, rows(136))
            assert covered(link) == [(0, 128), (128, 133)]
            assert not [event for event in events if event.name == "hop.receipt"]

    run_virtual(main())
