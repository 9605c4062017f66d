import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import cuts, messages, requests

from swarm.errors import LocalFault, ProtocolFault, VersionMismatch
from swarm.span import LayerSpan
from swarm.wire import connection as c
from swarm.wire import frames
from swarm.wire import messages as m
from swarm.wire.connection import ANSWERS, Connection, Role, State
from swarm.wire.events import Answered, Asked, Greeted, Parting, Pinged, Ponged, Violated
from swarm.wire.tensors import PLANES, Tensor

SESSION = bytes(range(16))
LOAD = m.Load(0, 1, 2, 0.5)


def tensor(size: int) -> Tensor:
    return Tensor("bf16", (1, size), memoryview(bytes(2 * size)))


def wire(built) -> bytes:
    return b"".join(part for frame in built for part in frame)


def pair(piece_bytes: int = 1024) -> tuple[Connection, Connection]:
    """Two connections that have greeted each other."""
    dialler, listener = Connection(Role.DIALLER, "a", piece_bytes), Connection(Role.LISTENER, "b", piece_bytes)
    assert listener.receive_data(wire(dialler.hello())) == [Greeted(m.Hello(m.PROTOCOL_VERSION, "a", c.CODECS))]
    assert dialler.receive_data(wire(listener.hello())) == [Greeted(m.Hello(m.PROTOCOL_VERSION, "b", c.CODECS))]
    return dialler, listener


def fault_in(events) -> str:
    assert isinstance(events[-1], Violated)
    assert isinstance(events[-1].fault, ProtocolFault)
    return str(events[-1].fault)


def test_a_request_and_its_answers():
    dialler, listener = pair()
    stream = dialler.new_stream()
    forward = m.Forward(SESSION, 1, 0, m.Rows.CHUNK, tensor(4000))
    asked = dialler.send(stream, forward, PLANES)
    assert listener.receive_data(wire(asked)) == [Asked(stream, forward)]
    working = m.Working(SESSION, 1, 5)
    assert dialler.receive_data(wire(listener.send(stream, working))) == [Answered(stream, working, False)]
    result = m.Result(SESSION, 1, 0, m.Rows.CHUNK, tensor(4000), LOAD)
    answer = listener.send(stream, result)
    assert len(answer) == 8  # pieces
    assert dialler.unanswered == 1
    assert dialler.receive_data(wire(answer)) == [Answered(stream, result, True)]
    assert dialler.unanswered == 0


def test_pings_pass_between_the_pieces_of_a_message():
    dialler, listener = pair()
    pieces = dialler.send(dialler.new_stream(), m.Forward(SESSION, 1, 0, m.Rows.CHUNK, tensor(2000)))
    ping = wire(dialler.send(0, m.Ping()))
    other = dialler.send(3, m.Close(SESSION))
    mixed = wire(pieces[:2]) + ping + wire(other) + wire(pieces[2:])
    got = listener.receive_data(mixed)
    assert [type(event) for event in got] == [Pinged, Asked, Asked]
    assert dialler.receive_data(wire(listener.send(0, m.Pong(LOAD)))) == [Ponged(m.Pong(LOAD))]


def test_either_side_may_say_goodbye_at_any_time_and_goes_on():
    dialler, listener = pair()
    goodbye = m.Goodbye((1 << 63) - 1)
    stream = dialler.new_stream()
    listener.receive_data(wire(dialler.send(stream, m.Close(SESSION))))
    assert dialler.receive_data(wire(listener.send(0, goodbye))) == [Parting(goodbye)]
    assert listener.receive_data(wire(dialler.send(0, goodbye))) == [Parting(goodbye)]
    closed = m.Closed(SESSION)
    assert dialler.receive_data(wire(listener.send(stream, closed))) == [Answered(stream, closed, True)]


@given(st.lists(requests, max_size=5), st.lists(st.integers(0, 1 << 20), max_size=12), st.sampled_from([7, 64, 1024]))
def test_any_cut_of_the_bytes_gives_the_same_events(asked, points, piece_bytes):
    dialler, _ = pair(piece_bytes)
    data = b"".join(wire(dialler.send(dialler.new_stream(), message)) for message in asked)
    whole, byted, parted = (pair()[1] for _ in range(3))
    expected = whole.receive_data(data)
    assert [event.message for event in expected] == asked
    assert [event for part in cuts(data, points) for event in parted.receive_data(part)] == expected
    if len(data) < 3000:
        assert [event for byte in data for event in byted.receive_data(bytes([byte]))] == expected


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4), st.booleans())
def test_random_bytes_are_a_protocol_fault_at_most(data, points, greeted):
    target = pair()[1] if greeted else Connection(Role.LISTENER, "b", 1024)
    events = [event for part in cuts(data, points) for event in target.receive_data(part)]
    assert all(not isinstance(event, Violated) or isinstance(event.fault, ProtocolFault) for event in events)
    if len(data) >= 16 and not greeted:
        assert isinstance(events[-1], Violated)
    assert len(target._head) <= 16 + frames.MAX_METADATA_BYTES


@given(messages, st.integers(0, 1 << 20), st.integers(0, 255), st.booleans())
def test_one_changed_byte_never_escapes(message, place, byte, greeted):
    """A valid frame with one byte changed is a fault, an event, or waits for more bytes; it never raises."""
    sender = Connection(Role.DIALLER, "a", 1 << 16)
    kind, metadata, body = c.packing.pack_message(message)
    data = bytearray(wire(frames.build(kind, 1, metadata, body, 1 << 16)))
    data[place % len(data)] = byte
    target = pair()[1] if greeted else Connection(Role.LISTENER, "b", 1024)
    target.receive_data(data)
    assert sender.ours is State.HELLO_WAIT


def test_a_frame_of_two_gigabytes_is_refused_by_its_header():
    _, listener = pair()
    head = struct.pack("<IBBHQ", 1 << 31, 6, 0, 10, 1)
    assert "exceeds the cap" in fault_in(listener.receive_data(head))
    assert listener.theirs is State.CLOSED
    assert listener.receive_data(b"more") == []


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (struct.pack("<IBBHQ", 10, 6, 0, 11, 1), "metadata"),
        (struct.pack("<IBBHQ", 9000, 6, 0, 5000, 1), "metadata"),
        (struct.pack("<IBBHQ", 10, 6, 2, 1, 1), "unknown flags"),
        (struct.pack("<IBBHQ", 10, 6, 0, 1, 1 << 63), "stream"),
        (struct.pack("<IBBHQ", 10, 99, 0, 1, 1), "unknown kind 99"),
        (struct.pack("<IBBHQ", 10, 1, 0, 1, 0), "a Hello came"),
        (struct.pack("<IBBHQ", 1, 2, 0, 1, 1), "a Ping on stream 1"),
        (struct.pack("<IBBHQ", 1, 9, 0, 1, 0), "a Renew on stream 0"),
    ],
)
def test_a_forbidden_header_is_refused_at_once(head, says):
    _, listener = pair()
    assert says in fault_in(listener.receive_data(head))


def test_nothing_but_a_hello_may_come_first():
    listener = Connection(Role.LISTENER, "b", 1024)
    assert "came while" in fault_in(listener.receive_data(struct.pack("<IBBHQ", 1, 2, 0, 1, 0)))
    with pytest.raises(LocalFault):
        Connection(Role.DIALLER, "a", 1024).send(0, m.Ping())


def test_another_version_is_named():
    for version, older in [(m.PROTOCOL_VERSION + 1, "software here"), (0, "peer")]:
        stranger, listener = Connection(Role.DIALLER, "a", 1024), Connection(Role.LISTENER, "b", 1024)
        stranger._hello = m.Hello(version, "a", ())
        (event,) = listener.receive_data(wire(stranger.hello()))
        assert isinstance(event.fault, VersionMismatch)
        assert f"version {version} of" in str(event.fault)
        assert f"speak {m.PROTOCOL_VERSION}: upgrade the {older}" in str(event.fault)


def test_answers_to_nothing_are_refused():
    dialler, listener = pair()
    closed = frames.build(11, 1, c.packing.pack_message(m.Closed(SESSION))[1], memoryview(b""), 1024)
    assert "answers nothing" in fault_in(dialler.receive_data(wire(closed)))
    with pytest.raises(LocalFault):
        listener.send(1, m.Closed(SESSION))
    dialler, listener = pair()
    assert "answers no Ping" in fault_in(dialler.receive_data(wire(listener.send(0, m.Pong(None)))))


@pytest.mark.parametrize("asked", [m.Renew(SESSION), m.Open(SESSION, bytes(32), LayerSpan(0, 2), "bf16", 9)])
def test_the_wrong_answer_is_refused_on_both_sides(asked):
    dialler, listener = pair()
    listener.receive_data(wire(dialler.send(1, asked)))
    with pytest.raises(LocalFault):
        listener.send(1, m.Closed(SESSION))
    assert m.Closed not in ANSWERS[type(asked)]
    forged = frames.build(11, 1, c.packing.pack_message(m.Closed(SESSION))[1], memoryview(b""), 1024)
    assert "answers nothing" in fault_in(dialler.receive_data(wire(forged)))


def test_a_stream_in_use_or_of_the_wrong_side_is_refused():
    dialler, listener = pair()
    request = wire(dialler.send(1, m.Renew(SESSION)))
    assert isinstance(listener.receive_data(request)[0], Asked)
    assert "in use" in fault_in(listener.receive_data(request))
    with pytest.raises(LocalFault):
        dialler.send(1, m.Renew(SESSION))
    with pytest.raises(LocalFault):
        dialler.send(2, m.Renew(SESSION))
    even = frames.build(9, 2, c.packing.pack_message(m.Renew(SESSION))[1], memoryview(b""), 1024)
    assert "not the peer's" in fault_in(pair()[1].receive_data(wire(even)))


def forward_frames(size: int, *pieces: tuple[int, int]):
    """Frames of one Forward that declares `2 * size` bytes: (bytes sent, flags) each."""
    _, metadata, _ = c.packing.pack_message(m.Forward(SESSION, 0, 0, m.Rows.CHUNK, tensor(size)))
    for count, flags in pieces:
        yield frames.HEADER.pack(len(metadata) + count, 6, flags, len(metadata), 1) + metadata + bytes(count)
        metadata = b""


@pytest.mark.parametrize(
    "pieces",
    [
        [(99, 0)],  # truncated
        [(101, 0)],  # more than declared
        [(100, 1)],  # whole, and yet it goes on
        [(50, 1), (49, 0)],
        [(50, 1), (51, 0)],
        [(50, 1), (50, 1)],
        [(50, 1), (0, 1)],
        [(0, 1)],
    ],
)
def test_a_body_that_is_not_what_was_declared_is_refused(pieces):
    _, listener = pair()
    events = [event for data in forward_frames(50, *pieces) for event in listener.receive_data(data)]
    assert "declares 100 bytes" in fault_in(events)


def test_frames_of_two_messages_do_not_mix_on_one_stream():
    _, listener = pair()
    (first,) = forward_frames(50, (50, 1))
    assert listener.receive_data(first) == []
    assert "before the last one was whole" in fault_in(listener.receive_data(first))


def test_promised_bodies_are_bounded_and_take_no_memory_before_they_come():
    _, listener = pair()
    _, metadata, _ = c.packing.pack_message(
        m.Forward(SESSION, 0, 0, m.Rows.CHUNK, Tensor("bf16", (1 << 25,), memoryview(bytearray(1 << 26))))
    )
    events = []
    for stream in range(1, 9, 2):
        head = frames.HEADER.pack(len(metadata) + 1, 6, frames.MORE, len(metadata), stream)
        assert sum(len(partial.body) for partial in listener._partials.values()) <= 4
        events = listener.receive_data(head + metadata + b"x")
        if events:
            break
    assert "unfinished messages" in fault_in(events)
    assert stream == 5
    assert not listener._partials


def test_requests_at_once_are_bounded(monkeypatch):
    dialler, listener = pair()
    monkeypatch.setattr(c, "MAX_STREAMS", 3)
    for _ in range(3):
        listener.receive_data(wire(dialler.send(dialler.new_stream(), m.Renew(SESSION))))
    with pytest.raises(LocalFault):
        dialler.new_stream()
    assert "more than 3 requests" in fault_in(listener.receive_data(wire(dialler.send(7, m.Renew(SESSION)))))


def test_a_person_can_see_its_state():
    dialler, listener = pair()
    dialler.send(1, m.Renew(SESSION))
    assert repr(dialler) == "Connection(dialler, ours=open, theirs=open, asked=1, serving=0)"
    listener.close()
    assert repr(listener) == "Connection(listener, ours=closed, theirs=closed, asked=0, serving=0)"
    with pytest.raises(LocalFault):
        listener.send(0, m.Ping())
