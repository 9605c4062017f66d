"""Who drips is told from who is slow."""

from __future__ import annotations

from swarm.transport.channels.stalled_transfers import Progress, StalledTransfers


def watch(bytes_at, *, in_message: bool = False, frames=lambda second: 0, seconds: int = 60, gap: float = 1.0):
    """The second at which a peer is found too slow, and the reason."""
    transfers = StalledTransfers(10.0, 4096)
    for second in range(seconds):
        reason = transfers.tick(second * gap, Progress(bytes_at(second), True, frames(second), in_message, 0))
        if reason is not None:
            return second, reason
    return None


def test_a_drip_ends_just_after_its_grace() -> None:
    assert watch(lambda second: second) == (11, "11 bytes of a frame came within 11 s")
    assert watch(lambda second: 0) == (11, "0 bytes of a frame came within 11 s")


def test_a_slow_link_is_no_drip() -> None:
    assert watch(lambda second: 5000 * second) is None
    assert watch(lambda second: 300 * second, frames=lambda second: second // 5) is None


def test_a_message_must_go_on_though_its_frames_end() -> None:
    at, reason = watch(lambda second: 100 * second, in_message=True, frames=lambda second: second) or (0, "")
    assert (at, reason) == (11, "1100 bytes of a message came within 11 s")


def test_a_head_start_does_not_last() -> None:
    assert watch(lambda second: (100_000 if second else 0) + second, seconds=200) == (
        35,
        "100035 bytes of a frame came within 35 s",
    )


def test_time_in_which_we_did_not_run_does_not_count() -> None:
    transfers = StalledTransfers(10.0, 4096)
    assert transfers.tick(0.0, Progress(5, True, 0, False, 0)) is None
    assert transfers.tick(600.0, Progress(5, True, 0, False, 0)) is None
    assert transfers.tick(601.0, Progress(90, False, 1, False, 0)) is None


def test_one_thing_after_the_other_starts_anew() -> None:
    assert watch(lambda second: 17 * second, frames=lambda second: second // 9) is None
