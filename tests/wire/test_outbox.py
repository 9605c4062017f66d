from swarm.wire.outbox import MAX_URGENT_RUN_BYTES, Outbox


def frame(name: bytes, size: int = 0):
    return (name, memoryview(bytes(size)))


def test_small_messages_overtake_the_pieces_of_large_ones():
    box = Outbox()
    box.push([frame(b"a1"), frame(b"a2"), frame(b"a3")])
    box.push([frame(b"b1"), frame(b"b2")])
    assert box.pop()[0] == b"a1"
    box.push([frame(b"ping")])
    assert [box.pop()[0] for _ in range(5)] == [b"ping", b"a2", b"a3", b"b1", b"b2"]
    assert not box


def test_pieces_are_not_starved():
    box = Outbox()
    box.push([frame(b"piece"), frame(b"last")])
    small = MAX_URGENT_RUN_BYTES // 4
    for _ in range(8):
        box.push([frame(b"", small)])
    order = [box.pop()[0] for _ in range(10)]
    assert order.index(b"piece") == 4
    assert order.index(b"last") == 9


def test_bytes_are_counted():
    box = Outbox()
    box.push([frame(b"abc", 5)])
    box.push([frame(b"1", 1), frame(b"2", 1)])
    assert box.bytes == 12
    box.pop()
    assert box.bytes == 4
    assert repr(box) == "Outbox(urgent=0, pieces=2, bytes=4)"
    box.clear()
    assert box.bytes == 0
    assert not box
