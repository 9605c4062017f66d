"""Where things live in the DHT: node ids, the keys of a record, XOR distance. Pure; knows nothing of sockets or stores.

A record is found under one key for every bucket of 16 layers that its span touches, and under the one index key that lists
everything served. The exact span is inside the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from swarm.records import ModelRef, PeerRecord
from swarm.span import LayerSpan

KEY_BYTES = 20  # node ids and keys share one space of 160 bits
FINGERPRINT_BYTES = 8
BUCKET_LAYERS = 16
LOWEST, HIGHEST = bytes(KEY_BYTES), b"\xff" * KEY_BYTES


def _hash(domain: bytes, *parts: bytes) -> bytes:
    return hashlib.sha256(domain + b"\0" + b"".join(parts)).digest()[:KEY_BYTES]


INDEX_KEY = _hash(b"swarm-index-1")


def node_id(peer_id: bytes) -> bytes:
    """The DHT's id of a peer. Nobody chooses where he sits: it is a hash of the public key that signs his replies."""
    return _hash(b"swarm-node-1", peer_id)


def bucket_key(digest: bytes, bucket: int) -> bytes:
    """The key of layers `16 * bucket` to `16 * bucket + 15` of the model with this digest."""
    return _hash(b"swarm-layers-1", digest, bucket.to_bytes(4, "big"))


def _bucket_keys(digest: bytes, span: LayerSpan) -> list[bytes]:
    first, last = span.start // BUCKET_LAYERS, (span.stop - 1) // BUCKET_LAYERS
    return [bucket_key(digest, bucket) for bucket in range(first, last + 1)]


def keys_of(record: PeerRecord) -> list[bytes]:
    """Every key that a record may be stored under: its buckets, then the index."""
    return [*_bucket_keys(record.model.digest, record.span), INDEX_KEY]


def keys_of_model(model: ModelRef) -> list[bytes]:
    """The keys to read for every record of a model."""
    return _bucket_keys(model.digest, LayerSpan(0, model.layer_count))


def fingerprint(places: Iterable[bytes]) -> bytes:
    """Of a set of node ids: who has a record, told in 8 bytes, so that equal sets are read once."""
    return hashlib.blake2b(b"".join(sorted(places)), digest_size=FINGERPRINT_BYTES).digest()


def distance(one: bytes, other: bytes) -> int:
    """Maymounkov and Mazieres, Kademlia (2002), section 2.1."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
