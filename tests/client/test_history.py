"""What is kept for a replay is what was sent, in the shapes that decide its bits."""

from __future__ import annotations

import pytest

from swarm.client.hops.history import Entry, History
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

HIDDEN = 2


def entry(rows: Rows, position: int, count: int) -> Entry:
    data = bytes(position + row for row in range(count) for _ in range(HIDDEN * 2))
    return Entry(rows, position, Tensor("bf16", (count, HIDDEN), memoryview(data)))


def history(*entries: Entry) -> History:
    kept = History()
    for each in entries:
        kept.append(each)
    return kept


def test_chunks_stay_as_they_were_and_decode_rows_are_joined() -> None:
    kept = history(
        entry(Rows.CHUNK, 0, 4),
        entry(Rows.CHUNK, 4, 2),
        *(entry(Rows.DECODE, position, 1) for position in range(6, 16)),
    )
    shapes = [(each.rows, each.position, each.count) for each in kept.segments(4)]
    assert shapes == [
        (Rows.CHUNK, 0, 4),
        (Rows.CHUNK, 4, 2),
        (Rows.DECODE, 6, 4),
        (Rows.DECODE, 10, 4),
        (Rows.DECODE, 14, 2),
    ]
    assert b"".join(each.tensor.data for each in kept.segments(4)) == kept.bytes_at(0, 16)
    assert (kept.length, kept.bytes) == (16, 16 * HIDDEN * 2)


def test_decode_rows_before_a_chunk_are_not_joined_over_it() -> None:
    kept = history(
        entry(Rows.DECODE, 0, 1), entry(Rows.DECODE, 1, 1), entry(Rows.CHUNK, 2, 2), entry(Rows.DECODE, 4, 1)
    )
    assert [(each.position, each.count) for each in kept.segments(64)] == [(0, 2), (2, 2), (4, 1)]


def test_rows_are_found_across_entries() -> None:
    kept = history(entry(Rows.CHUNK, 0, 3), entry(Rows.DECODE, 3, 1), entry(Rows.DECODE, 4, 2))
    whole = kept.bytes_at(0, 6)
    row = HIDDEN * 2
    for position in range(6):
        for count in range(6 - position + 1):
            assert kept.bytes_at(position, count) == whole[position * row : (position + count) * row]
    with pytest.raises(ValueError, match="rows up to 7 of 6"):
        kept.bytes_at(5, 2)


def test_rows_must_follow_on() -> None:
    kept = history(entry(Rows.CHUNK, 0, 3))
    with pytest.raises(ValueError, match="rows at 4 do not follow 3"):
        kept.append(entry(Rows.DECODE, 4, 1))
