"""Hypothesis strategies for messages, shared by the tests of the wire and of channels."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st
from support.receipts import receipts

from swarm.span import LayerSpan
from swarm.wire import messages as m
from swarm.wire.tensors import ITEM_BYTES, Tensor

wholes = st.integers(0, 1 << 40)
seconds = st.floats(0, 1e6, allow_nan=False)
sessions = st.binary(min_size=16, max_size=16)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
spans = st.tuples(st.integers(0, 100), st.integers(1, 100)).map(lambda pair: LayerSpan(pair[0], pair[0] + pair[1]))
loads = st.builds(m.Load, wholes, wholes, wholes, seconds)


@st.composite
def tensors(draw, max_items: int = 300):
    dtype = draw(st.sampled_from(sorted(ITEM_BYTES)))
    rows = draw(st.integers(1, 8))
    hidden = draw(st.integers(1, max(1, max_items // 8)))
    size = rows * hidden * ITEM_BYTES[dtype]
    # either noise or something that the codec can shorten
    data = draw(st.binary(min_size=size, max_size=size) | st.integers(0, 255).map(lambda byte: bytes([byte]) * size))
    return Tensor(dtype, (rows, hidden), memoryview(data))


rows = st.sampled_from(m.Rows)
forwards = st.builds(m.Forward, sessions, wholes, wholes, rows, tensors(), wholes, wholes)
results = st.builds(m.Result, sessions, wholes, wholes, rows, tensors(), loads, st.none() | receipts, st.booleans())
tickets = st.binary(min_size=64, max_size=64)
places = st.lists(st.tuples(texts, st.integers(1, 65535)), max_size=8).map(tuple)
connects = st.builds(m.Connect, sessions, wholes, sessions, st.binary(min_size=32, max_size=32), places, tickets)
faults = st.builds(m.Fault, st.none() | sessions, st.sampled_from(m.FaultCode), texts, st.none() | seconds)
opens = st.builds(
    m.Open, sessions, st.binary(min_size=32, max_size=32), spans, texts, wholes, st.none() | sessions, wholes
)
openeds = st.builds(m.Opened, sessions, seconds, texts, loads, wholes, st.none() | receipts)
pages = st.builds(m.RecordsPage, st.lists(st.binary(min_size=1, max_size=900), max_size=8).map(tuple), st.booleans())
fetches = st.builds(m.FetchRecords, st.binary(min_size=20, max_size=20), wholes)
messages = st.one_of(
    st.builds(m.Hello, wholes, texts, st.lists(texts, max_size=4).map(tuple)),
    st.just(m.Ping()),
    st.builds(m.DialBack, st.integers(0, 65535), st.integers(0, 65535)),
    st.builds(m.DialledBack, texts, texts, st.booleans()),
    st.builds(m.Goodbye, st.integers(0, (1 << 63) - 1)),
    st.builds(m.Pong, st.none() | loads),
    opens,
    openeds,
    forwards,
    results,
    st.builds(m.Working, sessions, wholes, wholes, st.booleans()),
    st.builds(m.Push, sessions, wholes, wholes, rows, tensors(), wholes, wholes),
    st.builds(m.Expect, sessions, wholes, wholes),
    connects,
    st.builds(m.Attach, sessions, wholes, tickets),
    st.builds(m.Connected, sessions, wholes),
    st.builds(m.Renew, sessions, st.booleans()),
    st.builds(m.Close, sessions),
    st.builds(m.Closed, sessions, st.none() | receipts),
    faults,
    fetches,
    pages,
)
requests = st.one_of(opens, forwards, fetches, st.builds(m.Close, sessions))


def cuts(data: bytes, points: list[int]) -> list[bytes]:
    """`data` cut at `points` (taken modulo its length)."""
    places = sorted({point % (len(data) + 1) for point in points} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]
