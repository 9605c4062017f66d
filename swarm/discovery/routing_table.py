"""The routing table: the package's k-buckets, with suspicion. Knows nothing of datagrams.

A contact that does not answer is suspected: not handed out, asked again by the next refresh, dropped the second time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from heapq import nsmallest
from itertools import islice
from operator import attrgetter

from kademlia.node import Node
from kademlia.routing import KBucket
from kademlia.routing import RoutingTable as PackageTable

from swarm.discovery.addresses import Endpoint, spread
from swarm.discovery.keys import KEY_BYTES, distance

MAX_STRIKES = 2  # requests in a row without an answer, after which a contact is dropped
MAX_LOST = 32  # addresses of dropped contacts, asked again when nobody is left
MAX_SILENT = 256  # nodes remembered as silent
SILENT_SECONDS = 15.0
ID_BITS = 8 * KEY_BYTES
_LONG_ID = attrgetter("long_id")


class RoutingTable(PackageTable):  # type: ignore[misc]  # the package is untyped
    """`check_head` gets the oldest contact of a full bucket: the package pings it in a task that nobody holds."""

    def __init__(self, node: Node, k: int, check_head: Callable[[Node], None]) -> None:
        super().__init__(None, k, node)
        self._check_head = check_head
        self._strikes: Counter[bytes] = Counter()
        self._silent: OrderedDict[tuple[bytes, Endpoint], float] = OrderedDict()  # until when
        self._ordered: list[Node] | None = None  # contacts by id, where asked for since they last changed
        self.lost: deque[Endpoint] = deque(maxlen=MAX_LOST)

    def add_contact(self, node: Node) -> None:
        """A node that has answered. A known one that answers at its address is not moved to another."""
        known = self.contact(node.id)
        if node.id == self.node.id or (known and not known.same_home_as(node) and not self._strikes[node.id]):
            return
        self._strikes.pop(node.id, None)
        self._silent.pop((node.id, (node.ip, node.port)), None)
        bucket = self.buckets[self.get_bucket_for(node)]
        while not bucket.add_node(node):
            if not bucket.has_in_range(self.node) and _depth(bucket) % 5 == 0:
                self._check_head(bucket.head())
                return
            self.split_bucket(self.buckets.index(bucket))
            bucket = self.buckets[self.get_bucket_for(node)]
        if known is None and self._ordered is not None:
            insort(self._ordered, node, key=_LONG_ID)
        elif known is not None and not known.same_home_as(node):
            self._ordered = None

    def flush(self) -> None:
        super().flush()
        self._bounds = [bucket.range[1] for bucket in self.buckets]

    def split_bucket(self, index: int) -> None:
        """Those that waited for a place in the bucket may have one now."""
        super().split_bucket(index)
        self._bounds = [bucket.range[1] for bucket in self.buckets]
        self._ordered = None

    def get_bucket_for(self, node: Node) -> int:
        """The package looks at one after another."""
        return bisect_right(self._bounds, node.long_id)

    def remove_contact(self, node: Node) -> None:
        self._ordered = None
        super().remove_contact(node)

    def strike(self, node: Node, now: float) -> None:
        """A node did not answer, at `now`. What others claim about a contact's address cannot hurt it."""
        self._silent[node.id, (node.ip, node.port)] = now + SILENT_SECONDS
        if len(self._silent) > MAX_SILENT:
            self._silent.popitem(last=False)
        known = self.contact(node.id)
        if known is None or not known.same_home_as(node):
            return
        self._strikes[node.id] += 1
        if self._strikes[node.id] >= MAX_STRIKES:
            del self._strikes[node.id]
            self.remove_contact(node)
            self.lost.append((node.ip, node.port))

    def is_silent(self, node: Node, now: float) -> bool:
        """Whether a node failed to answer just now, at this address: others may go on naming it for a while."""
        return self._silent.get((node.id, (node.ip, node.port)), 0.0) > now

    def contact(self, node: bytes) -> Node | None:
        return self.buckets[self.get_bucket_for(Node(node))][node]

    def is_known(self, node: Node) -> bool:
        """Whether a node is listed, or waits at the same address for a place in a full bucket."""
        bucket = self.buckets[self.get_bucket_for(node)]
        waiting = bucket.replacement_nodes.get(node.id)
        return node.id in bucket.nodes or (waiting is not None and bool(waiting.same_home_as(node)))

    def contacts(self) -> Iterator[Node]:
        return (node for bucket in self.buckets for node in bucket.nodes.values())

    def thin_levels(self, least: int) -> list[int]:
        """How many leading bits of our id are shared by the subtrees of which we know fewer than `least` contacts.

        Down to our nearest neighbour's: without a contact in every subtree that has nodes, a lookup may end in our own corner.
        """
        shared = Counter(ID_BITS - distance(node.id, self.node.id).bit_length() for node in self.contacts())
        return [level for level in range(max(shared, default=0)) if shared[level] < least]

    def estimated_nodes(self) -> float:
        """How many nodes there are in all, by how near the k nearest are to us: right to about a third."""
        nearest = nsmallest(self.ksize, (distance(node.id, self.node.id) for node in self.contacts()))
        return self.ksize * 2.0**ID_BITS / nearest[-1] if len(nearest) == self.ksize else len(nearest) + 1

    def suspects(self) -> list[Node]:
        return [node for node in self.contacts() if self._strikes[node.id]] if self._strikes else []

    def closest(self, key: bytes, count: int, exclude: bytes = b"") -> list[Node]:
        """The contacts nearest to a key that are not suspected, or if all are, then those; few of any one network."""
        if self._ordered is None:
            self._ordered = sorted(self.contacts(), key=_LONG_ID)
        most = count + 1 + len(self._strikes)  # so many of the nearest have enough who are not suspected, if any are
        place, size = int.from_bytes(key, "big"), len(self._ordered)
        for enough in (most, size):
            nearest = _nearest(self._ordered, place, enough, 0, size, ID_BITS - 1)
            known = [node for node in nearest if node.id != exclude]
            usable = ([node for node in known if not self._strikes[node.id]] if self._strikes else known) or known
            chosen = list(islice(spread(usable, lambda node: node.ip), count))
            if chosen == usable[:count]:  # else one network is crowded here, and others begin farther away
                break
        return chosen


def _depth(bucket: KBucket) -> int:
    """How many leading bits the ids of its nodes share; there are some."""
    ids = [node.long_id for node in bucket.nodes.values()]
    shared: int = ID_BITS - (max(ids) ^ min(ids)).bit_length()
    return shared


def _nearest(known: list[Node], place: int, count: int, start: int, stop: int, bit: int) -> list[Node]:
    """Of `known[start:stop]`, which is in the order of ids that differ in the lowest `bit + 1` bits: nearest first."""
    if stop - start <= count or bit < 0:
        return sorted(known[start:stop], key=lambda node: node.long_id ^ place)[:count]
    upper = place >> bit & 1  # all in the half that has this bit in common with the place are nearer than the others
    middle = bisect_left(known, (known[start].long_id >> bit | 1) << bit, start, stop, key=_LONG_ID)
    halves = [(middle, stop), (start, middle)] if upper else [(start, middle), (middle, stop)]
    found = _nearest(known, place, count, *halves[0], bit - 1)
    return found if len(found) == count else found + _nearest(known, place, count - len(found), *halves[1], bit - 1)
