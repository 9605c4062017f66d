"""Owners, leases, repeated steps and gaps."""

from __future__ import annotations

import pytest

from swarm.errors import Gap, Overloaded, SessionFault
from swarm.identity import Identity
from swarm.wire.messages import Forward, Load, Result, Rows
from swarm.wire.tensors import Tensor
from swarm.worker.sessions import SessionTable, check_position

ALICE, MALLORY = (Identity.from_seed(bytes([seed]) * 32).peer_id for seed in (1, 2))
NAME = b"s" * 16


class FakeCache:
    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.closed = 0

    def rollback(self, position: int) -> None:
        self.position = position

    def close(self) -> None:
        self.closed += 1


def forward(step: int, position: int, rows: int) -> Forward:
    return Forward(NAME, step, position, Rows.DECODE, Tensor("fp32", (rows, 1), memoryview(bytes(4 * rows))))


def result(step: int) -> Result:
    return Result(NAME, step, 0, Rows.DECODE, Tensor("fp32", (1, 1), memoryview(bytes(4))), Load(0, 0, 0, 0.0))


def test_a_session_belongs_to_the_peer_that_opened_it() -> None:
    table = SessionTable(max_sessions=4, lease_seconds=60)
    table.admit(ALICE, NAME)
    slot = table.add(ALICE, NAME, FakeCache(), 10, now=0)
    assert table.use(ALICE, NAME, now=1) is slot
    with pytest.raises(SessionFault) as stolen:
        table.use(MALLORY, NAME, now=1)
    with pytest.raises(SessionFault) as absent:
        table.use(MALLORY, b"t" * 16, now=1)
    assert str(stolen.value).replace(NAME.hex()[:8], "") == str(absent.value).replace((b"t" * 16).hex()[:8], "")
    with pytest.raises(SessionFault, match="taken"):
        table.admit(MALLORY, NAME)


def test_opening_again_frees_the_old_cache() -> None:
    table = SessionTable(max_sessions=1, lease_seconds=60)
    cache = FakeCache()
    table.add(ALICE, NAME, cache, 10, now=0)
    table.admit(ALICE, NAME)
    assert cache.closed == 1
    table.add(ALICE, NAME, FakeCache(), 10, now=0)
    with pytest.raises(Overloaded, match="1 sessions"):
        table.admit(ALICE, b"t" * 16)


def test_one_peer_leaves_room_for_others() -> None:
    table = SessionTable(max_sessions=4, lease_seconds=60)
    for name in (b"1" * 16, b"2" * 16):
        table.admit(MALLORY, name)
        table.add(MALLORY, name, FakeCache(), 10, now=0)
    with pytest.raises(Overloaded, match="you have 2 sessions open here"):
        table.admit(MALLORY, b"3" * 16)
    table.admit(MALLORY, b"1" * 16)  # in the place of an old one
    table.admit(ALICE, NAME)


def test_a_lease_ends_unless_it_is_used() -> None:
    table = SessionTable(max_sessions=4, lease_seconds=60)
    cache = FakeCache()
    slot = table.add(ALICE, NAME, cache, 10, now=0)
    table.use(ALICE, NAME, now=59)
    assert table.expire(now=118) == []
    assert table.expire(now=119) == [slot]
    assert cache.closed == 1
    assert len(table) == 0


def test_a_lost_connection_shortens_the_lease_and_a_return_restores_it() -> None:
    table = SessionTable(max_sessions=4, lease_seconds=60)
    slot = table.add(ALICE, NAME, FakeCache(), 10, now=0)
    table.shorten(ALICE, until=3)
    table.use(ALICE, NAME, now=2)
    assert table.expire(now=3) == []
    table.shorten(MALLORY, until=3)
    table.shorten(ALICE, until=5)
    assert table.expire(now=5) == [slot]


def test_a_cache_in_use_is_freed_when_the_compute_thread_lets_go() -> None:
    table = SessionTable(max_sessions=4, lease_seconds=60)
    cache = FakeCache()
    slot = table.add(ALICE, NAME, cache, 10, now=0)
    slot.begin(0)
    assert table.expire(now=1000) == []
    table.close(slot)
    assert cache.closed == 0
    slot.finish(result(0))
    assert cache.closed == 1


def test_a_failed_step_may_be_repeated() -> None:
    slot = SessionTable(4, 60).add(ALICE, NAME, FakeCache(), 10, now=0)
    slot.begin(3)
    slot.finish(result(3))
    slot.begin(4)
    slot.finish(None)
    assert (slot.step, slot.result, slot.busy) == (3, None, False)


def test_positions_go_back_but_leave_no_gap() -> None:
    slot = SessionTable(4, 60).add(ALICE, NAME, FakeCache(position=5), 8, now=0)
    check_position(slot, forward(0, 5, 3))
    check_position(slot, forward(0, 2, 1))
    with pytest.raises(Gap, match=r"position 6 leaves a gap.* holds 5 rows"):
        check_position(slot, forward(0, 6, 1))
    with pytest.raises(Overloaded, match="rows up to 9 exceed the 8"):
        check_position(slot, forward(0, 5, 4))
    assert "idle" in repr(slot)
