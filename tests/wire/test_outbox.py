from hypothesis import given
from hypothesis import strategies as st

from swarm.wire import frames
from swarm.wire.outbox import MAX_URGENT_RUN_BYTES, Outbox


def message(stream: int, size: int, piece_bytes: int = 1000):
    return frames.build(6, stream, b"meta", memoryview(bytes([stream]) * size), piece_bytes)


def streams(box: Outbox, count: int, piece_bytes: int = 1000):
    order = []
    for _ in range(count):
        (head, _), piece = box.pop(piece_bytes)
        order.append((frames.FrameHeader.parse(head).stream, piece))
    return order


def test_small_messages_overtake_the_pieces_of_large_ones():
    box = Outbox()
    box.push(message(1, 3000))
    box.push(message(2, 2000))
    assert streams(box, 1) == [(1, True)]
    box.push(message(3, 0))
    assert streams(box, 5) == [(3, False), (1, True), (1, True), (2, True), (2, True)]
    assert not box


def test_a_small_message_in_its_turn_overtakes_none():
    """A session's last chunk is smaller than those before it, and must not come first."""
    box = Outbox()
    box.push(message(1, 3000))
    box.push(message(2, 10), in_turn=True)
    box.push(message(3, 10))
    assert streams(box, 5) == [(3, False), (1, True), (1, True), (1, True), (2, True)]


def test_pieces_wait_when_none_may_go():
    box = Outbox()
    box.push(message(1, 3000))
    box.push(message(3, 10))
    assert streams(box, 1, 0) == [(3, False)]
    assert box.pop(0) is None
    assert box.bulk
    assert Outbox().pop(1000) is None


def test_pieces_are_not_starved():
    box = Outbox()
    box.push(message(1, 1001))
    for _ in range(8):
        box.push(message(3, MAX_URGENT_RUN_BYTES // 4, MAX_URGENT_RUN_BYTES))
    order = [stream for stream, _ in streams(box, 10)]
    assert order.index(1) == 4
    assert order[-1] == 1


@given(st.integers(1001, 5000), st.lists(st.integers(1, 1200), min_size=1, max_size=9))
def test_pieces_of_any_size_are_the_same_message(size, pieces):
    box = Outbox()
    whole = message(1, size)
    box.push(whole)
    body, headers = b"", []
    while box:
        (head, part), _ = box.pop(pieces[len(headers) % len(pieces)])
        header = frames.FrameHeader.parse(head)
        assert header.body_bytes == len(part)
        assert head[frames.HEADER_BYTES :] == (b"" if headers else b"meta")
        body += part
        headers.append(header.more)
    assert body == b"".join(part for _, part in whole)
    assert headers == [True] * (len(headers) - 1) + [False]
    assert box.bytes == 0


def test_bytes_are_counted():
    box = Outbox()
    box.push(message(1, 5))
    box.push(message(2, 1500))
    sizes = 20 + 5 + 20 + 1000 + 16 + 500
    assert repr(box) == f"Outbox(urgent=1, pieces=2, bytes={sizes})"
    box.pop(1000)
    assert box.bytes == sizes - 25
    box.pop(400)
    assert box.bytes == sizes - 25 - 420 + 16
    box.clear()
    assert box.bytes == 0
    assert not box
