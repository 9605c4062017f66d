"""Which records to believe (`Verifier`) and which to keep (`RecordStore`). Time is passed in; knows nothing of sockets.

Kept: for every key, one record of each peer, the one with the highest sequence, until the expiry that its signer gave it.
When a key is full, who has left goes first. Then, or when the whole store is full, somebody must go, and the rule decides who a
flood can push out: only members of the largest group go, first by network (the /24 or /48 that brought the record), among equals
by model, then by span, and within what is left the one with the highest hash under a secret of this node. So a flood from one
network, or of one span, displaces only itself; and because every replica draws by its own secret, their union holds more than one
of them can.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NoReturn

from kademlia.storage import IStorage

from swarm.config import DirectoryConfig
from swarm.discovery.keys import HIGHEST, LOWEST, PUBLIC, Keyspace, node_id
from swarm.discovery.packets import RECORD_OVERHEAD
from swarm.discovery.record_bucket import Held, RecordBucket
from swarm.identity import PeerId
from swarm.records import MAX_LIFETIME, BadRecord, PeerRecord, PeerState, SignedRecord

MAX_VERIFIED = 2048  # records whose signature need not be checked again
MAX_SEQUENCES = 8192  # peers whose highest sequence is remembered
MAX_PAGE_RECORDS = 256  # in a page that travels over TCP
PURGE_SECONDS = 1.0  # between two searches of the whole store for what has expired


def is_live(record: PeerRecord, now: float) -> bool:
    """Neither expired nor from a time that was taken back."""
    return now < record.expires_at <= now + MAX_LIFETIME


class Verifier:
    """Believes a record that its peer signed, that has not expired, and that is not older than one already seen."""

    def __init__(self) -> None:
        self._verified: OrderedDict[bytes, SignedRecord] = OrderedDict()
        # sequence, and until when an older record could be replayed
        self._highest: OrderedDict[PeerId, tuple[int, float]] = OrderedDict()

    def check(self, raw: object, now: float) -> SignedRecord | None:
        """The record, or None if it is malformed, oversized, forged, expired or replayed."""
        if type(raw) is not bytes:
            return None
        signed = self._verified.get(raw)
        if signed is None:
            try:
                signed = SignedRecord.parse(raw, now)
            except BadRecord:
                return None
            self._verified[raw] = signed
            if len(self._verified) > MAX_VERIFIED:
                self._verified.popitem(last=False)
            self._note(signed, now)
        return signed if self.current(signed, now) else None

    def current(self, signed: SignedRecord, now: float) -> bool:
        """Whether a record checked earlier still holds: live, and not superseded."""
        record = signed.record
        return is_live(record, now) and record.sequence >= self._highest.get(record.peer_id, (0, 0.0))[0]

    def _note(self, signed: SignedRecord, now: float) -> None:
        record = signed.record
        sequence, _ = self._highest.pop(record.peer_id, (0, 0.0))
        self._highest[record.peer_id] = max(sequence, record.sequence), now + MAX_LIFETIME
        if len(self._highest) > MAX_SEQUENCES:
            self._highest.popitem(last=False)

    def purge(self, now: float) -> None:
        """Forget what no longer can do harm."""
        for raw in [raw for raw, signed in self._verified.items() if signed.record.expired(now)]:
            del self._verified[raw]
        for peer in [peer for peer, (_, until) in self._highest.items() if until <= now]:
            del self._highest[peer]


class RecordStore(IStorage):  # type: ignore[misc]  # the package is untyped
    """key -> {peer: record}, bounded. What the package would do with a storage of its own is neutralised at the end."""

    def __init__(self, config: DirectoryConfig, verifier: Verifier, secret: bytes, keyspace: Keyspace = PUBLIC) -> None:
        self.config = config
        self.verifier = verifier
        self.keyspace = keyspace
        self.allow: frozenset[bytes] | None = None  # peers whose records are kept; None: everybody's
        self._secret = secret
        self._buckets: dict[bytes, RecordBucket] = {}
        self._ordered: dict[bytes, list[Held]] = {}  # buckets by place, where asked for since they last changed
        self._keys: dict[PeerId, set[bytes]] = {}
        self._networks: dict[bytes, dict[tuple[bytes, PeerId], None]] = {}  # what each network brought, oldest first
        self._purged_at = 0.0
        self.size = 0  # records held, once for every key

    def put(self, key: bytes, raw: object, now: float, network: bytes = b"") -> bool:
        """Take a record that `network` brought. True if it is now held under `key`.

        A newer record replaces the older ones of its peer under every key; where it no longer belongs, they vanish.
        """
        signed = self.verifier.check(raw, now)
        if signed is None or (self.allow is not None and signed.record.peer_id not in self.allow):
            return False
        peer, keys = signed.record.peer_id, frozenset(self.keyspace.keys_of(signed.record))
        new = Held(signed, node_id(peer), network, hashlib.blake2b(peer, key=self._secret, digest_size=8).digest())
        for held_key in tuple(self._keys.get(peer, ())):
            held = self._buckets[held_key][peer].signed
            if held.record.sequence < signed.record.sequence:
                self._remove(held_key, peer)
                if held_key in keys:
                    self._insert(held_key, new)
        if key not in keys:
            return False
        bucket = self._buckets.get(key)
        held_here = bucket.get(peer) if bucket is not None else None
        if held_here is not None:
            return held_here.signed.raw == signed.raw
        if not self._make_room(key, new, now):
            return False
        self._insert(key, new)
        return True

    def _make_room(self, key: bytes, new: Held, now: float) -> bool:
        """Whether `new` may come in, after whoever has to go for it is gone."""
        if len(self._keys.get(new.signed.record.peer_id, ())) >= self.config.max_keys_per_peer:
            return False
        if self._full(key) or self.size >= self.config.max_records:
            self.purge(now)
        if self._full(key):
            victim = self._victim(self._buckets[key], new)
            if victim is new:
                return False
            self._remove(key, victim.signed.record.peer_id)
        if self.size >= self.config.max_records:
            greediest = max(self._networks.values(), key=len)
            if len(greediest) <= len(self._networks.get(new.network, ())):
                return False
            self._remove(*next(iter(greediest)))
        return True

    def _victim(self, bucket: RecordBucket, new: Held) -> Held:
        """Who has to go for `new`, or `new` itself: before anybody who is there, one who has left."""
        if new.signed.record.state is PeerState.GONE:
            return new  # nothing that it said before is here
        for held in bucket:
            if held.signed.record.state is PeerState.GONE:
                return held
        bucket.add(new)
        victim = bucket.victim()
        bucket.pop(new.signed.record.peer_id)
        return victim

    def _full(self, key: bytes) -> bool:
        bucket = self._buckets.get(key)
        return bucket is not None and len(bucket) >= self.config.max_records_per_key

    def _insert(self, key: bytes, held: Held) -> None:
        peer = held.signed.record.peer_id
        self._buckets.setdefault(key, RecordBucket()).add(held)
        self._ordered.pop(key, None)
        self._keys.setdefault(peer, set()).add(key)
        self._networks.setdefault(held.network, {})[key, peer] = None
        self.size += 1

    def _remove(self, key: bytes, peer: PeerId) -> None:
        held = self._buckets[key].pop(peer)
        self._ordered.pop(key, None)
        self._keys[peer].discard(key)
        del self._networks[held.network][key, peer]
        self.size -= 1
        if not self._buckets[key]:
            del self._buckets[key]
        if not self._keys[peer]:
            del self._keys[peer]
        if not self._networks[held.network]:
            del self._networks[held.network]

    def purge(self, now: float) -> None:
        """Drop what has expired."""
        if abs(now - self._purged_at) < PURGE_SECONDS:
            return
        self._purged_at = now
        self.verifier.purge(now)
        for key, bucket in list(self._buckets.items()):
            for peer in [held.signed.record.peer_id for held in bucket if held.signed.record.expired(now)]:
                self._remove(key, peer)

    def held(self, key: bytes, now: float) -> list[Held]:
        """What is held under a key and still believed, by place."""
        ordered = self._ordered.get(key)
        if ordered is None:
            bucket = self._buckets.get(key)
            if bucket is None:
                return []
            ordered = self._ordered[key] = sorted(bucket, key=lambda held: held.place)
        return [held for held in ordered if self.verifier.current(held.signed, now)]

    def after(
        self, key: bytes, now: float, room: int, after: bytes = LOWEST, until: bytes = HIGHEST
    ) -> tuple[list[bytes], bytes]:
        """The records with `after < place <= until` that fit `room` bytes together; the place of the last if there are more."""
        held = self.held(key, now)
        raws: list[bytes] = []
        for index in range(bisect_right(held, after, key=lambda one: one.place), len(held)):
            if held[index].place > until:
                break
            room -= len(held[index].signed.raw) + RECORD_OVERHEAD
            if room < 0:
                return raws, held[index - 1].place if raws else b""
            raws.append(held[index].signed.raw)
        return raws, b""

    def page(self, key: bytes, offset: int, now: float) -> tuple[list[bytes], bool]:
        """Up to MAX_PAGE_RECORDS records from the offset on, and whether there are more."""
        held = self.held(key, now)
        stop = max(0, offset) + MAX_PAGE_RECORDS
        return [one.signed.raw for one in held[max(0, offset) : stop]], stop < len(held)

    def __repr__(self) -> str:
        return f"RecordStore({self.size} records under {len(self._buckets)} keys)"

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        return iter(())  # the package would push everything to every new neighbour

    def iter_older_than(self, seconds_old: float) -> Iterator[tuple[bytes, Any]]:
        return iter(())  # the package would store others' records again, so that they never die

    def get(self, key: bytes, default: Any = None) -> Any:
        return default

    def __getitem__(self, key: bytes) -> NoReturn:
        raise KeyError(key)

    def __setitem__(self, key: bytes, value: object) -> NoReturn:
        raise TypeError("only put() stores, and only what is signed")
