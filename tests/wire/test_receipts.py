"""Receipts: what is signed comes back, what is not true is refused, and both sides' tallies stay in step."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.receipts import receipts

from swarm.errors import LocalFault, ProtocolFault
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.wire.receipts import MAX_RECEIPT_BYTES, RECEIPT_ROWS, Receipt, Tally, row_digests, sign_receipt
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

WORKER, OTHER = Identity.from_seed(b"w" * 32), Identity.from_seed(b"o" * 32)
SESSION, DIGEST = bytes(range(16)), b"d" * 32
FIELDS = {
    "session_id": SESSION,
    "span": LayerSpan(2, 5),
    "start": 3,
    "stop": 8,
    "inputs": b"i" * 32,
    "outputs": b"o" * 32,
    "model_digest": DIGEST,
    "numerics": "fp32 cpu",
}


def signed(**changes: object) -> Receipt:
    return sign_receipt(WORKER, **(FIELDS | changes))  # type: ignore[arg-type]


def rows(*values: int) -> Tensor:
    """One row of two fp32 numbers for each value."""
    return Tensor("fp32", (len(values), 2), memoryview(b"".join(value.to_bytes(8, "little") for value in values)))


def tally() -> Tally:
    return Tally(SESSION, LayerSpan(2, 5), DIGEST, "fp32 cpu")


def fill(counted: Tally, start: int, stop: int) -> None:
    counted.add(start, rows(*range(start, stop)), rows(*range(1000 + start, 1000 + stop)))


@given(receipts)
def test_a_receipt_comes_back_and_proves_who_signed_it(receipt: Receipt) -> None:
    raw = receipt.pack()
    assert len(raw) <= MAX_RECEIPT_BYTES
    assert Receipt.parse(raw) == receipt


def test_only_the_signer_s_key_and_the_very_words_verify() -> None:
    receipt = signed()
    assert receipt.verify(WORKER.peer_id)
    assert not receipt.verify(OTHER.peer_id)
    changes = {
        "session_id": bytes(16),
        "span": LayerSpan(2, 6),
        "start": 2,
        "stop": 9,
        "inputs": bytes(32),
        "outputs": bytes(32),
        "model_digest": bytes(32),
        "numerics": "bf16 cpu",
        "signature": bytes(64),
    }
    for name, value in changes.items():
        assert not replace(receipt, **{name: value}).verify(WORKER.peer_id), name


def test_what_is_signed_is_of_a_domain_of_its_own() -> None:
    assert signed().body().startswith(b"swarm-receipt-1\0")


@given(st.binary(max_size=MAX_RECEIPT_BYTES + 10))
def test_random_bytes_are_a_protocol_fault(raw: bytes) -> None:
    with contextlib.suppress(ProtocolFault):
        Receipt.parse(raw)


@given(st.data())
def test_a_flipped_bit_is_malformed_or_does_not_verify(data: st.DataObject) -> None:
    raw = bytearray(signed().pack())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(ProtocolFault):
        assert not Receipt.parse(bytes(raw)).verify(WORKER.peer_id)


def forged(*values: object) -> bytes:
    return bytes(64) + bytes(msgpack.packb(list(values)))


GOOD: tuple[object, ...] = (SESSION, 2, 5, 3, 8, b"i" * 32, b"o" * 32, DIGEST, "fp32 cpu")


def test_the_example_that_the_next_test_breaks_is_good() -> None:
    assert replace(Receipt.parse(forged(*GOOD)), signature=signed().signature) == signed()


@pytest.mark.parametrize(
    ("index", "wrong"),
    [
        (0, bytes(15)),
        (0, "s" * 16),
        (1, -1),
        (1, 5),
        (1, True),
        (2, 1 << 20),
        (2, 5.0),
        (3, 8),
        (3, -1),
        (3, False),
        (4, 1 << 62),
        (4, None),
        (5, bytes(31)),
        (6, "o" * 32),
        (7, bytes(33)),
        (8, "x" * 257),
        (8, b"fp32 cpu"),
        (8, "escape \x1b[2J"),
        (8, ["fp32"]),
    ],
)
def test_a_field_out_of_range_is_a_protocol_fault(index: int, wrong: object) -> None:
    values = list(GOOD)
    values[index] = wrong
    with pytest.raises(ProtocolFault, match="receipt"):
        Receipt.parse(forged(*values))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(64),
        bytes(64) + b"\x90",
        bytes(64) + b"\x91" * 400,
        bytes(64) + b"\xdd\xff\xff\xff\xff",
        bytes(64) + b"\x80",
        forged(*GOOD, 1),
        forged(*GOOD[:-1]),
        forged(*GOOD) + b"\xc0",
        forged(*GOOD).replace(b"\x02\x05\x03\x08", b"\x02\x05\x03\xcc\x08"),  # 8 in two bytes
        forged(*GOOD).ljust(MAX_RECEIPT_BYTES + 1, b"\0"),
    ],
)
def test_hostile_bytes_are_a_protocol_fault(raw: bytes) -> None:
    with pytest.raises(ProtocolFault, match="receipt"):
        Receipt.parse(raw)


def test_nobody_signs_what_nobody_would_take() -> None:
    for changes in ({"stop": 3}, {"numerics": "x" * 300}, {"outputs": b""}):
        with pytest.raises(ValueError, match="out of range"):
            signed(**changes)


def test_rows_are_hashed_one_by_one() -> None:
    assert row_digests(rows(1, 2, 3)) == row_digests(rows(1)) + row_digests(rows(2, 3))
    wide = Tensor("fp32", (2, 2), memoryview(bytes(range(16))).cast("f"))
    assert row_digests(wide) == row_digests(Tensor("fp32", (2, 2), memoryview(bytes(range(16)))))


def test_a_receipt_is_due_after_a_chunk_and_after_so_many_decode_rows() -> None:
    counted = tally()
    assert not counted.due(Rows.CHUNK)  # there is nothing to sign
    fill(counted, 0, 5)
    assert counted.due(Rows.CHUNK)
    counted.sign(WORKER)
    for position in range(5, 5 + RECEIPT_ROWS):
        assert not counted.due(Rows.DECODE)
        fill(counted, position, position + 1)
    assert counted.due(Rows.DECODE)
    receipt = counted.sign(WORKER)
    assert (receipt.start, receipt.stop) == (5, 5 + RECEIPT_ROWS)
    assert not counted.due(Rows.DECODE)
    fill(counted, 37, 38)
    fill(counted, 38, 45)
    assert counted.due(Rows.CHUNK)
    receipt = counted.sign(WORKER)
    assert (receipt.start, receipt.stop) == (37, 45)  # decode rows that waited go with the chunk


def test_what_one_side_signs_the_other_accepts_however_the_rows_came() -> None:
    worker, client = tally(), tally()
    fill(worker, 0, 40)
    for position in range(40):
        fill(client, position, position + 1)
    receipt = worker.sign(WORKER)
    assert client.check(receipt, WORKER.peer_id) is receipt
    assert (client.start, client.stop, client.pending) == (40, 40, 0)
    fill(worker, 40, 50)
    fill(worker, 44, 46)  # rolled back
    fill(client, 40, 46)
    assert client.check(worker.sign(WORKER), WORKER.peer_id).stop == 46


def test_a_gap_is_our_own_mistake() -> None:
    counted = tally()
    fill(counted, 0, 3)
    for position, inputs, outputs in [(4, b"i" * 32, b"o" * 32), (3, b"", b""), (3, b"i" * 32, b"o" * 64)]:
        with pytest.raises(LocalFault, match="do not follow"):
            counted.add_digests(position, inputs, outputs)
    assert counted.stop == 3


def test_an_answer_that_was_never_read_leaves_both_sides_in_step() -> None:
    """The worker signed rows 10 to 42, nobody read it, and the last row is asked for again."""
    worker, client = tally(), tally()
    for counted in (worker, client):
        fill(counted, 0, 10)
    client.check(worker.sign(WORKER), WORKER.peer_id)
    fill(worker, 10, 42)
    fill(client, 10, 41)
    worker.sign(WORKER)
    for counted in (worker, client):
        fill(counted, 41, 42)
    receipt = client.check(worker.sign(WORKER), WORKER.peer_id)
    assert (receipt.start, receipt.stop) == (10, 42)


@pytest.mark.parametrize("back", [0, 3, 10, 20, 29, 30, 33, 35])
def test_a_rollback_past_a_receipt_leaves_both_sides_in_step(back: int) -> None:
    worker, client = tally(), tally()
    for start, stop in ((0, 10), (10, 30), (30, 35)):
        for counted in (worker, client):
            fill(counted, start, stop)
        if stop < 35:
            client.check(worker.sign(WORKER), WORKER.peer_id)
    for counted in (worker, client):
        fill(counted, back, 64)
    receipt = client.check(worker.sign(WORKER), WORKER.peer_id)
    assert receipt.stop == 64
    assert receipt.start == (back if back < 10 else 10 if back < 30 else 30)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"session_id": bytes(16)}, "signed other session_id"),
        ({"span": LayerSpan(2, 6)}, "signed other span than those of rows 0 to 4: 2-5 where 2-4 is true"),
        ({"start": 1}, "signed other start"),
        ({"stop": 5}, "signed other stop"),
        ({"inputs": bytes(32)}, "signed other inputs"),
        ({"outputs": bytes(32)}, "signed other outputs"),
        ({"model_digest": bytes(32)}, "signed other model_digest"),
        ({"numerics": "bf16 cpu"}, "signed other numerics"),
    ],
)
def test_a_worker_that_signs_something_else_is_named(changes: dict[str, object], message: str) -> None:
    counted = tally()
    fill(counted, 0, 4)
    inputs, outputs = counted.digests()
    true = {"start": 0, "stop": 4, "inputs": inputs, "outputs": outputs}
    with pytest.raises(ProtocolFault, match=f"peer {WORKER.peer_id.short} {message}"):
        counted.check(signed(**(true | changes)), WORKER.peer_id)
    with pytest.raises(ProtocolFault, match="that it did not sign"):
        counted.check(signed(**true), OTHER.peer_id)
    with pytest.raises(ProtocolFault, match="gave no receipt for rows 0 to 4"):
        counted.check(None, WORKER.peer_id)
    assert counted.pending == 4
    assert counted.check(signed(**true), WORKER.peer_id) == signed(**true)


def test_a_session_that_begins_with_another_s_rows_has_a_receipt_of_its_own_for_them() -> None:
    parent, child = tally(), bytes(range(16, 32))
    fill(parent, 0, 4)
    parent.sign(WORKER)
    fill(parent, 4, 8)
    parent.sign(WORKER)
    fill(parent, 7, 9)  # a row anew, and another
    branched, whole = parent.branch(child, 6), Tally(child, LayerSpan(2, 5), DIGEST, "fp32 cpu")
    fill(whole, 0, 6)
    receipt = branched.sign(WORKER)
    assert (receipt.session_id, receipt.start, receipt.stop) == (child, 0, 6)
    assert whole.check(receipt, WORKER.peer_id) == receipt
    fill(branched, 6, 8)
    fill(whole, 6, 8)
    assert whole.check(branched.sign(WORKER), WORKER.peer_id).start == 6
    assert parent.branch(child, 9).stop == 9
    for rows_of_parent in (0, 10):
        with pytest.raises(LocalFault, match="does not hold"):
            parent.branch(child, rows_of_parent)
