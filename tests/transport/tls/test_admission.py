"""Strangers at the door: whose place a newcomer takes, and what a block may send."""

from __future__ import annotations

from swarm.config import ChannelConfig
from swarm.transport.tls import admission
from swarm.transport.tls.admission import HANDSHAKE_BYTES, Handshakes

CROWD, OTHER = b"\x7f\x00\x02", b"\x7f\x00\x00"


def crowded(places: int = 10, **limits: int) -> Handshakes:
    """Every place is taken, by one block."""
    door = Handshakes(ChannelConfig(max_handshakes=places, **limits))
    for number in range(places):
        assert door.room(CROWD, 0.0) == (None, None)
        door.begin(number, CROWD, 0.0)
    return door


def test_a_newcomer_takes_the_oldest_place_of_the_block_that_has_most() -> None:
    door = crowded()
    assert door.room(OTHER, 0.1) == (None, 0)
    door.end(0)
    door.begin("honest", OTHER, 0.1)
    assert door.room(OTHER, 0.1) == (None, 1)
    assert "10 handshakes are unfinished" in (door.room(CROWD, 0.1)[0] or "")
    assert repr(door) == "Handshakes(10 of 2 blocks)"


def test_two_blocks_share_the_places() -> None:
    door = crowded()
    for number in range(100, 120):
        refused, victim = door.room(OTHER, 0.1)
        if refused is None:
            door.end(victim)
            door.begin(number, OTHER, 0.1)
    assert door._blocks == {CROWD: 5, OTHER: 5}


def test_who_says_nothing_makes_room_for_its_own_block() -> None:
    door = crowded()
    assert door.room(CROWD, 0.9)[0] is not None
    assert door.room(CROWD, 1.0) == (None, 0)
    door.spoke(0, 100, 1.0)
    assert door.room(CROWD, 1.1)[0] is not None  # it speaks, so it is waited for


def test_bytes_before_a_key_is_proved_have_a_rate_for_each_block() -> None:
    door = Handshakes(ChannelConfig(early_bytes_per_second=HANDSHAKE_BYTES, early_burst_bytes=4 * HANDSHAKE_BYTES))

    def hello(now: float, block: bytes = CROWD) -> bool:
        if door.room(block, now)[0] is not None:
            return False
        door.begin("one", block, now)
        door.spoke("one", 1, now)  # counts as a whole handshake
        door.end("one")
        return True

    assert [hello(0.0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert hello(0.0, OTHER)
    assert [hello(1.0) for _ in range(2)] == [True, False]
    assert [hello(100.0) for _ in range(6)] == [True] * 4 + [False] * 2


def test_a_block_that_is_far_beyond_its_rate_is_not_listened_to() -> None:
    door = Handshakes(ChannelConfig(early_bytes_per_second=1, early_burst_bytes=1000))
    door.begin("one", CROWD, 0.0)
    assert door.spoke("one", 1500, 0.0) is None
    assert "too much" in (door.spoke("one", 500, 0.0) or "")
    door.end("one")
    door.end("one")
    assert door.spoke("one", 1, 0.0) is None
    assert len(door) == 0


def test_blocks_are_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(admission, "MAX_BUDGETS", 8)
    door = Handshakes(ChannelConfig())
    for number in range(100):
        door.room(bytes([number]), float(number) / 10)
        assert len(door._budgets) <= 8
    door.room(OTHER, 1000.0)
    assert len(door._budgets) == 1
