"""The iterative lookup of Kademlia (Maymounkov and Mazieres 2002, section 2.3) with a sliding window instead of rounds.

`Frontier` decides, purely: whom to ask next, whom to pass by, when it is done. `crawl` does the asking. A node that is late is
passed by, not waited for: the next one is asked in its place, and its answer still counts if it comes before the end.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from kademlia.node import Node

from swarm.discovery.addresses import Endpoint, reach, spread
from swarm.discovery.keys import distance
from swarm.discovery.packets import BadDatagram, Found, Method, parse_found
from swarm.discovery.protocol import Answer, RecordProtocol

MAX_ASKED = 64  # nodes, in one crawl
MAX_CANDIDATES = 512
MAX_BLAME = 5  # a node that named this many which do not answer is believed last
QUORUM = 2  # with fewer answers, late nodes are waited for
MAX_PATIENCE = 0.4  # seconds until a node is passed by, however uneven the answers came of late
CLOCK_SLACK = 0.001  # seconds: timers may fire this much early


class State(Enum):
    NEW = 1
    ASKED = 2
    LATE = 3  # asked, and passed by
    ANSWERED = 4
    FAILED = 5


@dataclass(slots=True)
class Candidate:
    """A node as somebody named it: an id at an address. Another address is another candidate, so a lie masks nobody."""

    node: Node
    state: State = State.NEW
    referrers: set[bytes] = field(default_factory=set)  # ids of who named it; empty if we knew it ourselves

    @property
    def endpoint(self) -> Endpoint:
        return self.node.ip, self.node.port


class Frontier:
    """The nodes known to one crawl towards `key`, and what became of each."""

    def __init__(self, key: bytes, k: int, own: bytes, patient: bool = False) -> None:
        self.key, self.k, self._own = key, k, own
        self._place = int.from_bytes(key, "big")
        self._patient = patient  # wait for late nodes among the nearest k, so that everybody finds the same k
        self._candidates: dict[tuple[bytes, Endpoint], Candidate] = {}
        self._ordered: list[tuple[int, int, Candidate]] = []  # by distance, then as they were named
        self._answered: set[bytes] = set()  # ids
        self._blame: Counter[bytes] = Counter()
        self._strict = True  # until nobody else is left, nodes named only by the discredited are not asked

    def offer(self, node: Node, referrer: bytes | None = None) -> None:
        """Somebody named a node; or, without a referrer, we know it ourselves."""
        if node.id == self._own:
            return
        name = node.id, (node.ip, node.port)
        candidate = self._candidates.get(name)
        if candidate is None:
            if len(self._candidates) >= MAX_CANDIDATES:
                return
            candidate = self._candidates[name] = Candidate(node, referrers={referrer} if referrer else set())
            insort(self._ordered, (node.long_id ^ self._place, len(self._ordered), candidate))
        elif referrer is None:
            candidate.referrers.clear()
        elif candidate.referrers:
            candidate.referrers.add(referrer)

    def to_ask(self, most: int) -> list[Candidate]:
        """Up to `most` of the nearest k, nearest first, that were not asked yet."""
        asked = sum(one.state is not State.NEW for one in self._candidates.values())
        return [one for one in self._nearest() if one.state is State.NEW][: max(0, min(most, MAX_ASKED - asked))]

    def mark(self, candidate: Candidate, state: State) -> None:
        if state in (State.LATE, State.FAILED) and candidate.state is not State.LATE:
            self._blame.update(candidate.referrers)
        if state is State.ANSWERED:
            self._answered.add(candidate.node.id)
        candidate.state = state

    def finished(self) -> bool:
        """Whether the nearest k that respond have answered."""
        if any(one.state is not State.ANSWERED for one in self._nearest()):
            return False
        if len(self._answered) < self.k and self._strict:
            self._strict = False
            return self.finished()
        if len(self._answered) >= (self.k if self._patient else QUORUM):
            return not self._patient or all(one.state is not State.LATE for one in self._nearest(late=True))
        return all(one.state is not State.LATE for one in self._candidates.values())

    def _nearest(self, late: bool = False) -> list[Candidate]:
        usable = (one for _, _, one in self._ordered if self._usable(one, late))
        return list(islice(spread(usable, lambda one: one.node.ip), self.k))

    def _usable(self, one: Candidate, late: bool) -> bool:
        if one.state is State.ANSWERED:
            return True
        if one.state is State.FAILED or (one.state is State.LATE and not late) or one.node.id in self._answered:
            return False
        return not self._strict or len(one.referrers) != 1 or self._blame[next(iter(one.referrers))] < MAX_BLAME

    def __repr__(self) -> str:
        states = Counter(one.state.name.lower() for one in self._candidates.values())
        return f"Frontier({', '.join(f'{count} {state}' for state, count in sorted(states.items()))})"


Listener = Callable[[Answer, Found], None]


def _take(protocol: RecordProtocol, frontier: Frontier, answer: Answer | None) -> Found | None:
    """What a response to FIND says, its nodes offered to the frontier; None if it is of no use."""
    if answer is None:
        return None
    try:
        found = parse_found(answer.body)
    except BadDatagram:
        return None
    now = asyncio.get_running_loop().time()
    for name, (host, port) in found.nodes:
        node = Node(name, host, port)
        near_enough = reach(host) >= reach(answer.node.ip) and protocol.reaches(host)
        if near_enough and not protocol.router.is_silent(node, now):
            frontier.offer(node, answer.node.id)
            known = protocol.router.contact(name)
            if known is not None:
                frontier.offer(known)
    return found


async def crawl(
    protocol: RecordProtocol,
    key: bytes,
    start: Iterable[Node],
    *,
    alpha: int,
    seconds: float,
    heard: Listener | None = None,
) -> list[Answer]:
    """Ask towards `key`. All who answered, nearest first, those crowded in one network last.

    To read, with `heard`, who gets each answer as it comes, with records; else to find the very k nodes that are the nearest.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    frontier = Frontier(key, protocol.k, protocol.source_node.id, patient=heard is None)
    for node in start:
        frontier.offer(node)
    running: dict[asyncio.Task[Answer | None], tuple[Candidate, float]] = {}
    answers: dict[bytes, Answer] = {}
    while (now := loop.time()) < ends:
        prompt = sum(one.state is State.ASKED for one, _ in running.values())
        for one in frontier.to_ask(alpha - prompt):
            frontier.mark(one, State.ASKED)
            asking = protocol.call(one.endpoint, one.node.id, Method.FIND, key, int(heard is not None))
            running[protocol.spawn(asking)] = one, now + min(protocol.timeout, MAX_PATIENCE)
        if frontier.finished() or not running:
            break
        patience = min((late - now for one, late in running.values() if one.state is State.ASKED), default=ends - now)
        done, _ = await asyncio.wait(
            running, timeout=max(0.0, min(patience, ends - now)), return_when=asyncio.FIRST_COMPLETED
        )
        for task in [task for task in running if task in done]:  # in the order of asking, not of a set
            one, _ = running.pop(task)
            answer = None if task.cancelled() else task.result()  # the protocol has stopped
            found = _take(protocol, frontier, answer)
            frontier.mark(one, State.ANSWERED if found else State.FAILED)
            if answer and found:
                answers[answer.node.id] = answer
                if heard:
                    heard(answer, found)
        for one, late in running.values():
            if one.state is State.ASKED and loop.time() + CLOCK_SLACK >= late:
                frontier.mark(one, State.LATE)
    nearest = sorted(answers.values(), key=lambda answer: distance(answer.node.id, key))
    return list(spread(nearest, lambda answer: answer.node.ip))
