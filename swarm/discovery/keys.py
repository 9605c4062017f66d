"""Where things live in the DHT: node ids, the keys of a record, XOR distance. Pure; knows nothing of sockets or stores.

A record is found under one key for every bucket of 16 layers that its span touches, and under the one index key that lists
everything served. The exact span is inside the record.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from swarm.records import ModelRef, PeerRecord
from swarm.span import LayerSpan

KEY_BYTES = 20  # node ids and keys share one space of 160 bits
FINGERPRINT_BYTES = 8
PROOF_BYTES = 16  # of a request, that its sender is a member
BUCKET_LAYERS = 16
LOWEST, HIGHEST = bytes(KEY_BYTES), b"\xff" * KEY_BYTES


class Keyspace:
    """Where the records of one swarm lie, and what its members sign and prove.

    With a swarm key everything is derived by it: who does not have it cannot tell where to look, is not answered, and signs
    nothing that members believe. Without one the swarm is open.
    """

    def __init__(self, swarm_key: bytes | None = None) -> None:
        self._swarm_key = swarm_key
        self.index = self._key(b"swarm-index-1")  # lists everything served
        self._request_key = None if swarm_key is None else self._hash(b"swarm-request-1")

    def _hash(self, domain: bytes, *parts: bytes) -> bytes:
        message = domain + b"\0" + b"".join(parts)
        if self._swarm_key is None:
            return hashlib.sha256(message).digest()
        return hmac.digest(self._swarm_key, message, "sha256")

    def _key(self, domain: bytes, *parts: bytes) -> bytes:
        return self._hash(domain, *parts)[:KEY_BYTES]

    def bucket_key(self, digest: bytes, bucket: int) -> bytes:
        """The key of layers `16 * bucket` to `16 * bucket + 15` of the model with this digest."""
        return self._key(b"swarm-layers-1", digest, bucket.to_bytes(4, "big"))

    def _bucket_keys(self, digest: bytes, span: LayerSpan) -> list[bytes]:
        first, last = span.start // BUCKET_LAYERS, (span.stop - 1) // BUCKET_LAYERS
        return [self.bucket_key(digest, bucket) for bucket in range(first, last + 1)]

    def keys_of(self, record: PeerRecord) -> list[bytes]:
        """Every key that a record may be stored under: its buckets, then the index."""
        return [*self._bucket_keys(record.model.digest, record.span), self.index]

    def keys_of_model(self, model: ModelRef) -> list[bytes]:
        """The keys to read for every record of a model."""
        return self._bucket_keys(model.digest, LayerSpan(0, model.layer_count))

    def domain(self, name: bytes) -> bytes:
        """What stands before the bytes that a member signs under this name."""
        return name + b"\0" if self._swarm_key is None else name + b"\0" + self._hash(name)

    def proof(self, request: bytes) -> bytes:
        """What a member appends to a request; empty in an open swarm."""
        return b"" if self._request_key is None else hmac.digest(self._request_key, request, "sha256")[:PROOF_BYTES]


PUBLIC = Keyspace()  # of an open swarm


def node_id(peer_id: bytes) -> bytes:
    """The DHT's id of a peer. Nobody chooses where he sits: it is a hash of the public key that signs his replies."""
    return hashlib.sha256(b"swarm-node-1\0" + peer_id).digest()[:KEY_BYTES]


def fingerprint(places: Iterable[bytes]) -> bytes:
    """Of a set of node ids: who has a record, told in 8 bytes, so that equal sets are read once."""
    return hashlib.blake2b(b"".join(sorted(places)), digest_size=FINGERPRINT_BYTES).digest()


def distance(one: bytes, other: bytes) -> int:
    """Maymounkov and Mazieres, Kademlia (2002), section 2.1."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
