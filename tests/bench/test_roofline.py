"""The bound that memory sets."""

from swarm.bench.roofline import Memory


def test_a_bandwidth_is_bytes_a_second() -> None:
    with Memory(1 << 22) as memory:
        assert 1e7 < memory.bandwidth() < 1e13
