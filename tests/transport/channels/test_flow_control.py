import pytest

from swarm.transport.channels import flow_control as p
from swarm.transport.channels.flow_control import FlowControl
from swarm.wire.tensors import CODECS, PLANES, RAW

PIECE = 64 << 10


class Path:
    """A link of so many bytes per second and seconds one way and back, with an endless buffer before it."""

    def __init__(self, rate: float, round_trip: float) -> None:
        self.flow = FlowControl(PIECE)
        self.rate = rate
        self.round_trip = round_trip
        self.now = 0.0
        self.free_at = 0.0
        self.pongs: list[float] = []
        self.worst_queue = 0.0
        self.flow.pinged(0.0)
        self.now = round_trip
        self.flow.ponged(self.now, True)

    def upload(self, size: int) -> float:
        """Seconds until the last byte was confirmed."""
        began = self.now
        left = size
        while left or self.pongs:
            while left and (piece := self.flow.piece_bytes):
                piece = min(piece, left)
                left -= piece
                self.free_at = max(self.free_at, self.now) + piece / self.rate
                self.worst_queue = max(self.worst_queue, self.free_at - self.now)
                self.flow.sent(piece)
                if self.flow.wants_ping(left > 0):
                    self.flow.pinged(self.now)
                    self.pongs.append(self.free_at + self.round_trip)
            self.now = self.pongs.pop(0)
            self.flow.ponged(self.now, False)
        return self.now - began


@pytest.mark.parametrize("round_trip", [0.0005, 0.04, 0.2])
@pytest.mark.parametrize("rate", [125e3, 1e6, 12.5e6, 125e6])
def test_a_link_is_filled_with_a_short_queue(rate, round_trip):
    path = Path(rate, round_trip)
    size = int(max(20 * rate * round_trip, 3 * rate, 4 << 20))
    seconds = path.upload(size)
    assert seconds < 1.25 * size / rate + 12 * round_trip
    assert path.flow.rate == pytest.approx(rate, rel=0.3)
    path.worst_queue = 0.0
    path.upload(size)
    allowed = p.QUEUE_SECONDS + round_trip + PIECE / rate if rate > 4e5 else 2 * p.MIN_WINDOW_BYTES / rate
    assert path.worst_queue < 2 * allowed
    assert path.flow.pings_out == 0
    assert path.flow.unconfirmed == 0


def test_the_round_trip_is_smoothed_and_taken_from_an_empty_queue():
    flow = FlowControl(PIECE)
    for seconds in (0.1, 0.2):
        flow.pinged(0.0)
        flow.ponged(seconds, True)
    flow.pinged(0.0)
    flow.ponged(5.0, False)
    assert repr(flow) == "FlowControl(round_trip=112.5 ms, rate=unknown, window=64 KiB)"


def test_a_fast_link_gets_a_large_window_and_no_rate_that_was_never_reached():
    flow = FlowControl(PIECE)
    flow.pinged(0.0)
    flow.ponged(0.001, True)
    for _ in range(30):
        flow.sent(flow.window)
        flow.pinged(1.0)
        flow.ponged(1.001, False)
    assert flow.window == p.MAX_WINDOW_BYTES
    assert flow.piece_bytes == PIECE
    assert flow.rate is None


def test_pieces_wait_for_a_pong_and_shrink_with_the_window():
    flow = FlowControl(PIECE)
    flow.pinged(0.0)
    flow.ponged(0.01, True)
    assert flow.piece_bytes == p.FIRST_WINDOW_BYTES // p.PIECES_PER_WINDOW
    flow.sent(p.FIRST_WINDOW_BYTES)
    assert flow.piece_bytes == 0
    assert flow.wants_ping(True)
    flow.pinged(0.0)
    flow.ponged(0.02, True)
    assert flow.window == 2 * p.FIRST_WINDOW_BYTES
    flow.sent(p.FIRST_WINDOW_BYTES)
    flow.pinged(1.0)
    assert not flow.wants_ping(False)
    flow.ponged(60.0, False)
    assert flow.window == p.MIN_WINDOW_BYTES
    assert flow.piece_bytes == p.MIN_PIECE_BYTES


def test_the_codec_is_for_slow_links_large_tensors_and_peers_that_know_it():
    def paced(rate: float) -> FlowControl:
        path = Path(rate, 0.01)
        path.upload(50 << 20)
        return path.flow

    assert FlowControl(PIECE).codec(1 << 20, CODECS) == RAW
    assert paced(p.CODEC_BELOW_RATE * 1.5).codec(1 << 20, CODECS) == RAW
    slow = paced(p.CODEC_BELOW_RATE * 0.7)
    assert slow.codec(1 << 20, CODECS) == PLANES
    assert slow.codec(p.CODEC_FLOOR_BYTES - 1, CODECS) == RAW
    assert slow.codec(1 << 20, ()) == RAW
