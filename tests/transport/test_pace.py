from swarm.transport.pace import CODEC_BELOW_RATE, CODEC_FLOOR_BYTES, MIN_SAMPLE_BYTES, Pace
from swarm.wire.tensors import CODECS, PLANES, RAW


def burst(pace: Pace, rate: float, size: int = 1 << 20) -> None:
    pace.waiting(10.0, 500)
    pace.waiting(10.1, 700)
    pace.drained(10.0 + size / rate, 500 + size)


def test_the_round_trip_is_smoothed():
    pace = Pace()
    pace.round_trip_sample(0.1)
    pace.round_trip_sample(0.2)
    assert 0.1 < pace.round_trip < 0.12
    assert repr(pace) == "Pace(round_trip=112.5 ms, rate=unknown)"


def test_the_rate_is_what_left_while_more_was_waiting():
    pace = Pace()
    assert pace.rate is None
    burst(pace, 5e6)
    assert abs(pace.rate - 5e6) < 1
    burst(pace, 1e6, MIN_SAMPLE_BYTES - 1)
    assert abs(pace.rate - 5e6) < 1
    burst(pace, 1e6)
    assert abs(pace.rate - 3e6) < 1
    pace.drained(99.0, 0)
    assert abs(pace.rate - 3e6) < 1


def test_a_burst_that_took_no_time_is_no_sample():
    pace = Pace()
    pace.waiting(1.0, 0)
    pace.drained(1.0, 1 << 20)
    assert pace.rate is None


def test_the_codec_is_for_slow_links_large_tensors_and_peers_that_know_it():
    pace = Pace()
    assert pace.codec(1 << 20, CODECS) == RAW
    burst(pace, CODEC_BELOW_RATE * 1.01)
    assert pace.codec(1 << 20, CODECS) == RAW
    slow = Pace()
    burst(slow, CODEC_BELOW_RATE * 0.99)
    assert slow.codec(1 << 20, CODECS) == PLANES
    assert slow.codec(CODEC_FLOOR_BYTES - 1, CODECS) == RAW
    assert slow.codec(1 << 20, ()) == RAW
