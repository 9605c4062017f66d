"""Records for tests: `record(identity)` describes a worker, `announcement(identity)` is it signed."""

from __future__ import annotations

from swarm.identity import Identity
from swarm.records import Address, ModelRef, PeerRecord, PeerState, SignedRecord
from swarm.span import LayerSpan

MODEL = ModelRef("tiny", b"\x01" * 32, 32)


def identity(number: int) -> Identity:
    """The same key for the same number."""
    return Identity.from_seed(number.to_bytes(32, "big"))


def record(
    who: Identity, *, sequence: int = 1, now: float = 0.0, life: float = 60.0, model: ModelRef = MODEL, **changes
) -> PeerRecord:
    fields = {
        "addresses": (Address.of("10.1.2.3", 7700),),
        "span": LayerSpan(0, model.layer_count),
        "state": PeerState.SERVING,
        "precision": "bf16",
        "device": "cpu",
        "memory_total": 1 << 33,
        "memory_free": 1 << 32,
        "numerics": "bf16 cpu avx512 4 threads torch 2.13 tiles",
        "uplink": None,
        "downlink": None,
        "tokens_per_second": 12.5,
        "cache_tokens_free": 4096,
    }
    return PeerRecord(
        peer_id=who.peer_id, model=model, sequence=sequence, expires_at=float(now + life), **{**fields, **changes}
    )


def announcement(who: Identity, **options) -> SignedRecord:
    return record(who, **options).sign(who)
