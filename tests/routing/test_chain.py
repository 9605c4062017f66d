"""A chain is contiguous and complete, or it is not made."""

from __future__ import annotations

import pytest
from support.records import MODEL, peer

from swarm.records import Address
from swarm.routing.chain import Chain, Hop
from swarm.span import LayerSpan

WHOLE = LayerSpan(0, 10)


def hop(number: int, layers: str, numerics: str = "a") -> Hop:
    return Hop(peer(number), (Address.of("192.0.2.7", 7700),), LayerSpan.parse(layers), numerics)


def test_hops_cover_the_span_in_order() -> None:
    chain = Chain(MODEL, WHOLE, (hop(1, "0-3"), hop(2, "4"), hop(3, "5-9")))
    assert str(chain) == "00010000:0-3 > 00020000:4 > 00030000:5-9"
    assert chain.numerics == "a"
    assert Chain(MODEL, WHOLE, (hop(1, "0-3"), hop(2, "4-9", "b"))).numerics is None


@pytest.mark.parametrize(
    "layers",
    [(), ("0-8",), ("1-9",), ("0-3", "5-9"), ("0-4", "4-9"), ("4-9", "0-3"), ("0-9", "0-9"), ("0-10",), ("0-9", "10")],
)
def test_anything_else_is_refused(layers: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="chain"):
        Chain(MODEL, WHOLE, tuple(hop(number, text) for number, text in enumerate(layers)))
