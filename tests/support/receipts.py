"""Hypothesis strategies for receipts, shared by the tests of the wire."""

from __future__ import annotations

from hypothesis import strategies as st

from swarm.span import LayerSpan
from swarm.wire.receipts import MAX_NUMERICS_BYTES, MAX_POSITION, Receipt


@st.composite
def _receipts(draw: st.DrawFn) -> Receipt:
    first = draw(st.integers(0, 100))
    start = draw(st.integers(0, 1 << 40))
    numerics = st.text(st.characters(categories=["L", "N", "P"]), max_size=MAX_NUMERICS_BYTES // 4)

    def raw(size: int) -> bytes:
        return draw(st.binary(min_size=size, max_size=size))

    return Receipt(
        raw(16),
        LayerSpan(first, first + draw(st.integers(1, 100))),
        start,
        draw(st.integers(start + 1, MAX_POSITION)),
        raw(32),
        raw(32),
        raw(32),
        draw(numerics),
        raw(64),
    )


receipts = _receipts()
