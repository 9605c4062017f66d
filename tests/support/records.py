"""Records of made-up workers: `make_record(3, "0-9")` is peer 3's, `hypothesis` strategies for any."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

from swarm.identity import Identity, PeerId
from swarm.records import Address, ModelRef, PeerRecord, PeerState
from swarm.span import LayerSpan

NOW = 1_000_000.0
MODEL = ModelRef("llama-test", bytes(range(32)), 10)


@cache
def identity(number: int) -> Identity:
    return Identity.from_seed(number.to_bytes(32, "big"))


def peer(number: int) -> PeerId:
    """A peer id that sorts by its number; nobody holds its key."""
    return PeerId(number.to_bytes(2, "big") + bytes(30))


def make_record(number: int, layers: str, **changes: Any) -> PeerRecord:
    """A serving worker with `layers`, both ends included; ten rows a second through its span unless told otherwise."""
    fields: dict[str, Any] = {
        "peer_id": peer(number),
        "addresses": (Address.of("192.0.2.7", 7700),),
        "model": MODEL,
        "span": LayerSpan.parse(layers),
        "state": PeerState.SERVING,
        "precision": "bf16",
        "device": "cpu",
        "memory_total": 8 << 30,
        "memory_free": 4 << 30,
        "numerics": "bf16/cpu/x86",
        "uplink": None,
        "downlink": None,
        "tokens_per_second": 10.0,
        "cache_tokens_free": 4096,
        "sequence": 1,
        "expires_at": NOW + 60.0,
    }
    return PeerRecord(**{**fields, **changes})


SHOWN_AT = 1_800_000_000.0
TINY = ModelRef("tiny", bytes(32), 8)


def shown_record(number: int, start: int, stop: int, **changes: Any) -> PeerRecord:
    """A worker as pictures of a swarm show it: of the layers of `tiny`, a minute before its record expires."""
    fields: dict[str, Any] = {
        "peer_id": identity(number).peer_id,
        "addresses": (Address.of("192.0.2.7", 7700 + number),),
        "model": TINY,
        "span": LayerSpan(start, stop),
        "memory_total": 1 << 30,
        "memory_free": 1 << 28,
        "tokens_per_second": 120.0,
        "cache_tokens_free": 1000,
        "expires_at": SHOWN_AT + 60,
    }
    return make_record(number, "0", **{**fields, **changes})


_hosts = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).filter(lambda host: host.ipv4_mapped is None).map(str)
_ports = st.integers(0, 65535)
_texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20)
_rates = st.none() | st.floats(0, 1e12)
_sizes = st.integers(0, 1 << 60)


@st.composite
def records(draw: st.DrawFn) -> PeerRecord:
    """Any valid record of peer 0 (`identity(0)` signs it)."""
    layer_count = draw(st.integers(1, 4096))
    stop = draw(st.integers(1, layer_count))
    return PeerRecord(
        identity(0).peer_id,
        tuple(draw(st.lists(st.builds(Address, _hosts, _ports, _ports, _ports), min_size=1, max_size=4))),
        ModelRef(draw(_texts.filter(bool)), draw(st.binary(min_size=32, max_size=32)), layer_count),
        LayerSpan(draw(st.integers(0, stop - 1)), stop),
        draw(st.sampled_from(PeerState)),
        draw(st.sampled_from(["fp32", "bf16"])),
        draw(_texts),
        draw(_sizes),
        draw(_sizes),
        draw(_texts),
        draw(_rates),
        draw(_rates),
        draw(_rates),
        draw(_sizes),
        draw(st.integers(0, (1 << 63) - 1)),
        draw(st.floats(NOW + 1, NOW + 600)),
    )
