"""Owners, leases, repeated steps and gaps."""

from __future__ import annotations

import math

import pytest

from swarm.config import WorkerConfig
from swarm.errors import Gap, Overloaded, SessionFault, UsageFault
from swarm.identity import Identity
from swarm.shares import Holder
from swarm.span import LayerSpan
from swarm.wire.messages import Forward, Load, Result
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor
from swarm.worker.positions import check_position
from swarm.worker.sessions import GROWTH_RETRY, GROWTH_ROWS, SessionSlot, SessionTable

ALICE, MALLORY = (Identity.from_seed(bytes([seed]) * 32).peer_id for seed in (1, 2))
AT_HOME, ELSEWHERE = Holder(ALICE, b"home"), Holder(MALLORY, b"elsewhere")
NAME = b"s" * 16


class FakeCache:
    span = LayerSpan(0, 1)
    max_rows = 100
    budget = free = 1000  # bytes, of which a row takes one

    def __init__(self, position: int = 0, size: int = 0) -> None:
        self.position = position
        self.size = size
        self.closed = 0
        self.gone: set[int] = set()  # positions that it cannot be rolled back to

    def holds(self, position: int) -> bool:
        return position <= self.position and position not in self.gone

    def beginning(self, rows: int) -> int:
        return min(rows, self.position)

    def rollback(self, position: int) -> None:
        self.position = position

    def extend(self, max_rows: int) -> None:
        if max_rows > self.budget:
            raise Overloaded(f"{max_rows} bytes will never fit", math.inf)
        if max_rows > self.free:
            raise Overloaded(f"{max_rows} bytes do not fit now")
        self.max_rows = max_rows

    def settle(self) -> int:
        return self.size

    def close(self) -> None:
        self.closed += 1


def table_of(max_sessions: int, cache_bytes: int = 1000) -> SessionTable:
    return SessionTable(WorkerConfig(max_sessions=max_sessions, max_queue_rows=100), cache_bytes)


def forward(step: int, position: int, rows: int) -> Forward:
    return Forward(NAME, step, position, Rows.DECODE, Tensor("fp32", (rows, 1), memoryview(bytes(4 * rows))))


def result(step: int) -> Result:
    return Result(NAME, step, 0, Rows.DECODE, Tensor("fp32", (1, 1), memoryview(bytes(4))), Load(0, 0, 0, 0.0))


def test_a_session_belongs_to_the_peer_that_opened_it() -> None:
    table = table_of(4)
    table.admit(AT_HOME, NAME)
    slot = table.add(AT_HOME, NAME, FakeCache(), 10, now=0)
    assert table.use(ALICE, NAME, now=1) is slot
    with pytest.raises(SessionFault) as stolen:
        table.use(MALLORY, NAME, now=1)
    with pytest.raises(SessionFault) as absent:
        table.use(MALLORY, b"t" * 16, now=1)
    assert str(stolen.value).replace(NAME.hex()[:8], "") == str(absent.value).replace((b"t" * 16).hex()[:8], "")
    with pytest.raises(SessionFault, match="taken"):
        table.admit(ELSEWHERE, NAME)


def test_opening_again_frees_the_old_cache() -> None:
    table = table_of(1)
    cache = FakeCache()
    table.add(AT_HOME, NAME, cache, 10, now=0)
    table.admit(AT_HOME, NAME)
    assert cache.closed == 1
    table.add(AT_HOME, NAME, FakeCache(), 10, now=0)
    with pytest.raises(Overloaded, match="sessions: 1 of 1 are taken"):
        table.admit(AT_HOME, b"t" * 16)


def names(count: int) -> list[bytes]:
    return [bytes([number]) * 16 for number in range(count)]


def test_one_peer_leaves_room_for_others() -> None:
    table = table_of(4)
    for name in names(3):
        table.admit(ELSEWHERE, name)
        table.add(ELSEWHERE, name, FakeCache(), 10, now=0)
    with pytest.raises(Overloaded, match="sessions: you hold 3, and of 4 only 1 are free"):
        table.admit(ELSEWHERE, b"3" * 16)
    table.admit(ELSEWHERE, names(1)[0])  # in the place of an old one
    table.admit(AT_HOME, NAME)


def test_the_cache_is_shared_out_by_peer_and_address_block() -> None:
    table = table_of(100, cache_bytes=1000)
    for number, name in enumerate(names(8)):
        who = Holder(Identity.from_seed(bytes([9 + number // 4]) * 32).peer_id, b"elsewhere")
        table.admit(who, name, 100)
        table.add(who, name, FakeCache(), 10, now=0, cache_bytes=100)
    with pytest.raises(Overloaded, match="bytes of cache for a session of 100: your address block holds 800"):
        table.admit(ELSEWHERE, NAME, 100)
    table.admit(AT_HOME, NAME, 150)
    table.admit(AT_HOME, NAME, 300)  # more than there is: the cache itself says so
    for slot in table:
        table.close(slot)
    table.admit(ELSEWHERE, NAME, 1000)


def test_rows_that_wait_are_shared_out_too() -> None:
    table = table_of(100)
    mine = table.add(AT_HOME, b"1" * 16, FakeCache(), 10, now=0)
    theirs = table.add(ELSEWHERE, b"2" * 16, FakeCache(), 10, now=0)
    table.take_rows(theirs, 75)
    with pytest.raises(Overloaded, match="rows that wait here: you hold 75"):
        table.take_rows(theirs, 1)
    table.take_rows(mine, 10)
    table.give_rows(theirs, 75)
    table.take_rows(theirs, 60)


def test_a_lease_ends_unless_it_is_used() -> None:
    table = table_of(4)
    cache = FakeCache()
    slot = table.add(AT_HOME, NAME, cache, 10, now=0)
    table.use(ALICE, NAME, now=59)
    assert table.expire(now=118) == []
    assert table.expire(now=119) == [slot]
    assert cache.closed == 1
    assert len(table) == 0


def test_a_lost_connection_shortens_the_lease_and_a_return_restores_it() -> None:
    table = table_of(4)
    slot = table.add(AT_HOME, NAME, FakeCache(), 10, now=0)
    table.shorten(ALICE, until=3)
    table.use(ALICE, NAME, now=2)
    assert table.expire(now=3) == []
    table.shorten(MALLORY, until=3)
    table.shorten(ALICE, until=5)
    assert table.expire(now=5) == [slot]


def test_a_cache_in_use_is_freed_when_the_compute_thread_lets_go() -> None:
    table = table_of(4)
    cache = FakeCache()
    slot = table.add(AT_HOME, NAME, cache, 10, now=0)
    slot.begin(0)
    assert table.expire(now=1000) == []
    table.close(slot)
    assert cache.closed == 0
    slot.finish(result(0))
    assert cache.closed == 1


def test_a_failed_step_may_be_repeated() -> None:
    slot = table_of(4).add(AT_HOME, NAME, FakeCache(), 10, now=0)
    slot.begin(3)
    slot.finish(result(3))
    slot.begin(4)
    slot.finish(None)
    assert (slot.step, [*slot.results], slot.busy) == (3, [3], False)


def test_positions_go_back_but_leave_no_gap() -> None:
    slot = table_of(4).add(AT_HOME, NAME, FakeCache(position=5), 8, now=0)
    check_position(slot, forward(0, 5, 3))
    check_position(slot, forward(0, 2, 1))
    with pytest.raises(Gap, match=r"position 6 leaves a gap.* holds 5 rows"):
        check_position(slot, forward(0, 6, 1))
    slot.cache.gone.add(3)  # type: ignore[attr-defined]
    with pytest.raises(SessionFault, match="cannot go back from 5 to 3"):
        check_position(slot, forward(0, 3, 1))
    assert "idle" in repr(slot)


def grown(table: SessionTable, slot: SessionSlot, rows: int, context: int = 5000) -> int:
    """Rows that it has room for afterwards; a row is a byte."""
    table.reach(slot, rows, context, lambda rows, span: rows)
    assert slot.cache.max_rows == slot.max_rows == slot.cache_bytes  # type: ignore[attr-defined]
    return slot.max_rows


def test_a_session_grows_by_more_than_it_needs_while_there_is_room_and_by_just_that_else() -> None:
    table = table_of(4, cache_bytes=1000)
    slot = table.add(AT_HOME, NAME, FakeCache(), 100, 0, 100)
    assert grown(table, slot, 100) == 100
    assert grown(table, slot, 101) == 101 + GROWTH_ROWS
    assert grown(table, slot, 900) == 900  # alone, whatever share one may have
    with pytest.raises(Overloaded, match=r"2000 .* will never fit") as never:
        table.reach(slot, 2000, 5000, lambda rows, span: rows)
    assert never.value.retry_after == math.inf
    with pytest.raises(UsageFault, match="rows up to 951: the model's context is 950"):
        grown(table, slot, 951, context=950)
    table.close(slot)
    table.admit(ELSEWHERE, NAME, 1000)


def test_a_session_that_cannot_grow_now_says_so_and_what_is_kept_gives_way() -> None:
    table = table_of(4, cache_bytes=1000)
    slot = table.add(AT_HOME, NAME, FakeCache(), 100, 0, 100)
    other = table.add(ELSEWHERE, b"o" * 16, FakeCache(size=800), 800, 0, 800)
    slot.cache.free = 200  # type: ignore[attr-defined]
    with pytest.raises(Overloaded, match="300 bytes do not fit now") as refused:
        grown(table, slot, 300)
    assert refused.value.retry_after == GROWTH_RETRY
    assert (slot.max_rows, slot.cache_bytes) == (100, 100)
    table.keep(other, now=1)
    slot.cache.free = 1000  # type: ignore[attr-defined]
    assert grown(table, slot, 300) == 300 + GROWTH_ROWS
    assert other.closed


def kept(table: SessionTable, holder: Holder, name: bytes, size: int, now: float) -> SessionSlot:
    table.admit(holder, name, size)
    table.make_room(holder, size)
    slot = table.add(holder, name, FakeCache(size=size), 10, now, size)
    table.keep(slot, now)
    return slot


def test_kept_sessions_count_as_free_and_go_the_least_recently_used_first() -> None:
    table = table_of(4)
    slots = [kept(table, AT_HOME, bytes([index]) * 16, 200, now=float(index)) for index in range(3)]
    assert (len(table), table.kept_bytes) == (0, 600)
    slots[0].kept_at = 3.0  # it was a parent just now
    table.admit(AT_HOME, NAME, 500)
    table.make_room(AT_HOME, 500)
    assert [slot.closed for slot in slots] == [False, True, False]
    table.add(AT_HOME, NAME, FakeCache(), 10, 0, 500)
    assert (len(table), table.kept_bytes) == (1, 400)
    with pytest.raises(Overloaded, match="you hold 500"):
        table.admit(AT_HOME, b"t" * 16, 400)  # what it keeps changes nothing in what it may have
    table.make_room(AT_HOME, 1000)
    assert not slots[0].closed  # nothing would be gained


def test_a_full_table_drops_kept_sessions_first_those_of_the_same_address_block() -> None:
    table = table_of(2)
    theirs = kept(table, ELSEWHERE, b"1" * 16, 10, now=0.0)
    ours = kept(table, AT_HOME, b"2" * 16, 10, now=1.0)
    table.make_room(AT_HOME, 10)
    assert (ours.closed, theirs.closed) == (True, False)
    table.add(AT_HOME, NAME, FakeCache(), 10, 0, 10)
    table.make_room(AT_HOME, 10)
    assert theirs.closed


def test_a_parent_and_what_is_being_copied_stay() -> None:
    table = table_of(2)
    parent, lending = (kept(table, AT_HOME, bytes([index]) * 16, 10, now=0.0) for index in range(2))
    lending.lend()
    table.make_room(AT_HOME, 10, parent)
    assert not parent.closed
    assert not lending.closed
    table.close(lending)
    assert lending.cache.closed == 0  # type: ignore[attr-defined]
    lending.lent()
    assert lending.cache.closed == 1  # type: ignore[attr-defined]


def test_nobody_keeps_more_than_a_share() -> None:
    table = table_of(8)
    slots = [kept(table, AT_HOME, bytes([index]) * 16, 250, now=float(index)) for index in range(4)]
    assert [slot.closed for slot in slots] == [True, False, False, False]
    neighbour = Holder(MALLORY, AT_HOME.block)
    with pytest.raises(SessionFault, match="your address block holds 750"):
        kept(table, neighbour, b"n" * 16, 250, now=9.0)
    assert table.kept_bytes == 750
    lapsed = table.expire(now=1000.0)
    assert (len(lapsed), table.kept_bytes, len(table)) == (3, 0, 0)


def test_a_session_whose_step_is_being_computed_has_not_ended() -> None:
    table = table_of(2)
    slot = table.add(AT_HOME, NAME, FakeCache(), 10, 0, 10)
    slot.begin(0)
    with pytest.raises(SessionFault, match="has not ended"):
        table.keep(slot, 0)
    slot.finish(result(0))
    table.keep(slot, 0)
    table.keep(slot, 1)
    assert slot.kept_at == 0
    assert not slot.results


def test_so_many_clients_at_once_and_no_more() -> None:
    table = SessionTable(WorkerConfig(max_clients=1), 1000)
    table.admit(AT_HOME, NAME)
    mine = table.add(AT_HOME, NAME, FakeCache(), 10, now=0.0)
    table.admit(AT_HOME, b"t" * 16)
    with pytest.raises(Overloaded, match="1 clients at once"):
        table.admit(ELSEWHERE, b"u" * 16)
    table.keep(mine, now=1.0)  # its answer has ended, and only its rows are kept
    table.admit(ELSEWHERE, b"u" * 16)
