from dataclasses import replace

from swarm.config import ChannelConfig
from swarm.transport.channels.liveness import REPRIEVE_SECONDS, TICK_SECONDS, UPLOAD_BYTES, Liveness, Sight, Verdict

START = Sight(0.0, 0, 0, 0, False, False, 0.01)


class Script:
    """Ticks, keeping what is seen from one tick to the next."""

    def __init__(self, **first) -> None:
        self.liveness = Liveness(ChannelConfig())
        self.sight = replace(START, **first)
        self.liveness.start(self.sight)

    def tick(self, gap: float = TICK_SECONDS, **changes) -> Verdict:
        self.sight = replace(self.sight, now=self.sight.now + gap, **changes)
        return self.liveness.tick(self.sight)

    def until_stalled(self, most: float = 60.0, **changes) -> float:
        began = self.sight.now
        while self.tick(**changes) is not Verdict.STALLED:
            assert self.sight.now - began < most, "never stalled"
        return self.sight.now - began


def test_silence_is_first_asked_about_and_then_is_a_stall():
    script = Script()
    assert script.tick() is Verdict.FINE
    assert script.tick() is Verdict.PING
    assert script.tick(ping_out=True, ping_left=True) is Verdict.FINE
    assert 2.0 < script.until_stalled() < 2.75


def test_a_slow_round_trip_is_allowed_for_but_not_for_ever():
    assert 3.0 < Script(round_trip=0.05).until_stalled() < 3.75
    assert Script(round_trip=30.0).until_stalled() <= 4.75
    assert Script(round_trip=None).until_stalled() <= 3.25


def test_any_byte_is_life():
    script = Script()
    for step in range(100):
        assert script.tick(received=step + 1) is not Verdict.STALLED
    assert script.liveness.silent == 0.0


def test_our_own_upload_is_life_until_the_ping_has_left():
    script = Script(pending=1 << 20)
    left = 0
    assert script.tick(left=1) is Verdict.PING
    for _ in range(60):
        left += 10_000
        assert script.tick(left=left, pending=1 << 20, ping_out=True) is Verdict.FINE
    script.tick(left=left + 1, ping_left=True)
    elapsed = 0.0
    while script.tick(left=script.sight.left + 10_000) is not Verdict.STALLED:
        elapsed += TICK_SECONDS
    assert 2.5 < elapsed < 3.5


def test_a_ping_on_its_way_is_no_upload():
    script = Script(pending=100)
    assert script.until_stalled(pending=UPLOAD_BYTES, ping_out=True) < 3.5


def test_time_in_which_we_did_not_run_proves_nothing():
    script = Script()
    for _ in range(11):
        script.tick(ping_out=True, ping_left=True)
    assert script.tick(gap=3600.0) is Verdict.FINE
    assert REPRIEVE_SECONDS - 0.3 <= script.until_stalled() <= REPRIEVE_SECONDS + 0.3


def test_after_we_woke_the_peer_is_asked_at_once():
    script = Script()
    assert script.tick(gap=60.0) is Verdict.PING


def test_a_starved_process_still_notices_in_the_end():
    script = Script()
    ticks = 0
    while script.tick(gap=1.5, ping_out=True, ping_left=True) is not Verdict.STALLED:
        ticks += 1
    assert 6 <= ticks <= 10


def test_liveness_shows_the_silence():
    assert repr(Liveness(ChannelConfig())) == "Liveness(silent=0.00 s)"
