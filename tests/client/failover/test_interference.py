"""Whose prompts may have slipped between a session's rows."""

from swarm.client.failover.interference import Interference
from swarm.identity import Identity

ONE, OTHER = (Identity.from_seed(bytes([number]) * 32).peer_id for number in (1, 2))


def test_a_worker_with_our_sessions_alone_has_no_chunks_but_ours() -> None:
    traffic = Interference()
    traffic.opened(ONE)
    traffic.opened(ONE)
    traffic.opened(OTHER)
    assert not traffic.chunks_since(ONE, 2, 10.0)
    assert traffic.chunks_since(ONE, 3, 10.0)
    traffic.chunk_began(ONE)
    assert traffic.chunks_since(ONE, 2, 10.0)
    assert not traffic.chunks_since(OTHER, 1, 10.0)
    traffic.chunk_ended(ONE, 11.0)
    assert traffic.chunks_since(ONE, 2, 10.0)
    assert not traffic.chunks_since(ONE, 2, 11.0)


def test_nothing_is_kept_of_links_that_are_closed() -> None:
    traffic = Interference()
    traffic.opened(ONE)
    traffic.chunk_began(ONE)
    traffic.closed(ONE)
    traffic.chunk_ended(ONE, 5.0)
    assert not any((traffic._links, traffic._chunks, traffic._ended))
    assert traffic.chunks_since(ONE, 1, 0.0)
