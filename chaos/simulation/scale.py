"""A thousand peers and more: the directory and the router alone, in virtual time.

`python -m chaos scale [PEERS...]` prints a table: what a lookup costs, what announcing costs each peer, what is
left after a third vanishes at once, and how far the greedy chain is from the shortest path.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random

from chaos.simulation.clock import run_virtual
from chaos.simulation.crowd import DELAY, LAYERS, LOSS, MODEL, MOST_LAYERS, Crowd, Tell, economy, next_record, now
from chaos.simulation.seeding import seeded
from swarm.config import DirectoryConfig
from swarm.identity import Identity, PeerId
from swarm.records import ANNOUNCE_INTERVAL, RECORD_LIFETIME, PeerRecord
from swarm.routing.cost import Measurement, predicted_seconds
from swarm.routing.finder import coverage, find_chain
from swarm.span import LayerSpan

VANISHED = 0.3  # of the peers, at once
SETTLING, MEASURED = 1, 2  # announcements of all: who has no place in the index is told to it by one of the two
LOOKUPS = 20
CHAINS = 10  # routing problems
LEAST_ROUTED = 200  # workers of such a problem: fewer may not hold every layer


@dataclass(frozen=True, slots=True)
class Scale:
    """What was measured; seconds are virtual."""

    peers: int
    join_seconds: float  # median
    lookup_datagrams: float  # sent by one lookup, median
    lookup_round_trips: float  # that one lookup took, median
    lookup_seconds: float  # median
    lookup_share: float  # of all records that a lookup finds, mean
    announce_datagrams: float  # sent by a peer in one announcement interval, its answers to others included, mean
    announce_bytes: float  # per second, mean
    bootstrap_bytes: float  # per second, of the one by which all have joined
    busiest_bytes: float  # per second, of the peer that sends most beside it
    crowded_share: float  # of the peers, those that the directory had no room for
    vanished_share: float  # of the living records that a lookup finds right after 30 % vanished, mean
    vanished_seconds: float  # that it takes, median
    dead_share: float  # of what such a lookup finds, the part that is dead
    later_share: float  # of the living, one record lifetime later, mean
    later_dead_share: float
    layers_covered: float  # of those that living peers hold, the part that living records found then hold
    chain_excess: tuple[float, float]  # the greedy chain's predicted time over the shortest one's, median and worst
    found_excess: tuple[float, float]  # the same of a chain of what one lookup found; the shortest is still one of all

    def rows(self) -> list[tuple[str, str]]:
        """For a table."""
        return [
            ("peers", f"{self.peers}"),
            ("joining", f"{self.join_seconds:.2f} s"),
            ("lookup", f"{self.lookup_seconds:.2f} s, {self.lookup_round_trips:.1f} round trips"),
            ("lookup, datagrams sent", f"{self.lookup_datagrams:.0f}"),
            ("records found", f"{self.lookup_share:.1%}"),
            ("announcing, per peer", f"{self.announce_datagrams:.0f} datagrams, {self.announce_bytes / 1e3:.1f} kB/s"),
            ("announcing, the bootstrap", f"{self.bootstrap_bytes / 1e3:.1f} kB/s"),
            ("announcing, busiest other", f"{self.busiest_bytes / 1e3:.1f} kB/s"),
            ("announcing, peers without room", f"{self.crowded_share:.1%}"),
            (f"{VANISHED:.0%} vanish: living found", f"{self.vanished_share:.1%} in {self.vanished_seconds:.2f} s"),
            (f"{VANISHED:.0%} vanish: dead among found", f"{self.dead_share:.1%}"),
            ("a lifetime later: living found", f"{self.later_share:.1%}"),
            ("a lifetime later: dead among found", f"{self.later_dead_share:.1%}"),
            ("a lifetime later: layers covered", f"{self.layers_covered:.1%}"),
            ("greedy chain over shortest", _excess(self.chain_excess)),
            ("of what was found, over shortest of all", _excess(self.found_excess)),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:40} {value}" for name, value in self.rows())


def _excess(median_and_worst: tuple[float, float]) -> str:
    return "+{:.1%} median, +{:.1%} worst".format(*median_and_worst)


def page(found: Sequence[Scale]) -> str:
    """What `python -m chaos scale --report` writes."""
    rows = zip(*(one.rows() for one in found), strict=True)
    lines = [f"| {cells[0][0]} | {' | '.join(value for _, value in cells)} |" for cells in rows]
    lines.insert(1, "|---|" + "---|" * len(found))
    table, peers = "\n".join(lines), " ".join(str(one.peers) for one in found)
    config = DirectoryConfig()
    knocks = f"{config.knock_seconds:.0f} to {config.refresh_seconds:.0f} s"
    return f"""# The directory and the router alone, with many peers

`python -m chaos scale {peers}`: every peer is a node of the directory with a record of its own, in virtual time, on a network of
{1000 * DELAY:.0f} ms one way that loses {LOSS:.0%} of all datagrams. Each serves 2 to {MOST_LAYERS} of {LAYERS} layers.
What announcing costs is counted over {MEASURED} announcements of all, in which most also refresh their routing tables, once.
Then {VANISHED:.0%} vanish at once, without notice.

{table}

- A key lies at the {config.k} nodes nearest to it, {config.max_records_per_key} records at each, and three peers in ten have
  layers of the same bucket. Where they are more than that, each replica draws by a secret of its own, rare spans last to go, so
  that a lookup finds a part of them that leaves no layer out. A peer for which no replica of one of its buckets has room counts
  as without room; it announces no more often than others.
- The last row is what that costs: the greedy chain of what one lookup found, beside the shortest one of all there is.
- The busiest are the bootstrap by which all have joined, at which each knocks every {knocks}, the more peers the more rarely;
  and the replicas of the one index key, to which all announce. Who has no place in the index tells it only
  every second, fourth, eighth time; here it is every second.
- Those who vanished are found until their records expire, after {RECORD_LIFETIME:.0f} s.
"""


@dataclass(frozen=True, slots=True)
class Lookups:
    """Of several clients at once, each new."""

    seconds: list[float]
    datagrams: list[int]
    shares: list[float]  # of the records wanted
    dead: list[float]  # of the records found
    found: list[set[PeerId]]  # of those wanted, by each


async def _look_up(crowd: Crowd, wanted: set[PeerId], count: int) -> Lookups:
    measured = Lookups([], [], [], [], [])

    async def one() -> None:
        client = await crowd.start(passive=True)
        await client.join()
        sent, began = crowd.switch.carried[client.host], now()
        found = {signed.record.peer_id for signed in await client.lookup(MODEL)}
        measured.seconds.append(now() - began)
        measured.datagrams.append(crowd.switch.carried[client.host] - sent)
        measured.shares.append(len(found & wanted) / len(wanted))
        measured.dead.append(len(found - wanted) / max(1, len(found)))
        measured.found.append(found & wanted)

    await asyncio.gather(*(one() for _ in range(count)))
    return measured


def crowd_of_records(count: int, random: Random) -> list[PeerRecord]:
    """Workers as a router sees them."""
    identities = [Identity.from_seed((number + 1).to_bytes(32, "big")) for number in range(count)]
    return [next_record(None, identity, "10.0.0.1", random, 0.0) for identity in identities]


def chain_excess(
    records: Sequence[PeerRecord], random: Random, finds: Sequence[Collection[PeerId]]
) -> tuple[list[float], list[float]]:
    """How much longer than the shortest path the greedy chain is predicted to take, for as many clients as found something.

    First of one that knows all the records, then of one that knows what it found.
    """
    whole = LayerSpan(0, LAYERS)
    known = {record.peer_id: record for record in records}
    of_all: list[float] = []
    of_found: list[float] = []
    for found in finds:
        measured = {record.peer_id: Measurement(random.uniform(0.005, 0.3)) for record in records}
        least = shortest(records, measured)
        for excess, usable in ((of_all, records), (of_found, [known[peer] for peer in sorted(found)])):
            chain = find_chain(usable, MODEL, whole, measured, now=0.0)
            greedy = sum(predicted_seconds(known[hop.peer_id], hop.span, measured[hop.peer_id]) for hop in chain.hops)
            excess.append(greedy / least - 1.0)
    return of_all, of_found


def shortest(records: Sequence[PeerRecord], measured: dict[PeerId, Measurement]) -> float:
    """Seconds of the shortest chain over all layers: a path from layer to layer, each edge a part of a worker's span."""
    best = [0.0] + [float("inf")] * LAYERS
    for start in range(LAYERS):
        for record in records:
            if start in record.span:
                for stop in range(start + 1, record.span.stop + 1):
                    seconds = predicted_seconds(record, LayerSpan(start, stop), measured[record.peer_id])
                    best[stop] = min(best[stop], best[start] + seconds)
    return best[LAYERS]


async def _measure(peers: int, seed: int, tell: Tell) -> Scale:
    async with Crowd(peers, seed) as crowd:
        joins = await crowd.grow()
        tell("joined")
        for _ in range(SETTLING):
            await crowd.announce(crowd.nodes, tell)
        datagrams, size = crowd.switch.carried.copy(), crowd.switch.carried_bytes.copy()
        for _ in range(MEASURED):
            crowded = await crowd.announce(crowd.nodes, tell)
        seconds = MEASURED * ANNOUNCE_INTERVAL
        sent = [(crowd.switch.carried[node.host] - datagrams[node.host]) / MEASURED for node in crowd.nodes]
        rates = [(crowd.switch.carried_bytes[node.host] - size[node.host]) / seconds for node in crowd.nodes]
        before = await _look_up(crowd, set(crowd.records), LOOKUPS)
        told = [crowd.records[peer_id] for peer_id in sorted(crowd.records)]
        tell("looked up")
        living = crowd.vanish(VANISHED)
        alive = {node.identity.peer_id for node in living}
        after = await _look_up(crowd, alive, LOOKUPS)
        for _ in range(int(RECORD_LIFETIME / ANNOUNCE_INTERVAL)):
            await crowd.announce(living, tell)
        later = await _look_up(crowd, alive, LOOKUPS)
        held = coverage([record for record in told if record.peer_id in alive], LAYERS)
        seen = coverage([record for record in told if record.peer_id in set().union(*later.found)], LAYERS)
    if peers < LEAST_ROUTED:
        told = crowd_of_records(LEAST_ROUTED, Random(seed))
        before.found[:] = [{record.peer_id for record in told}] * LOOKUPS
    of_all, of_found = chain_excess(told, Random(seed), before.found[:CHAINS])
    return Scale(
        peers=peers,
        join_seconds=statistics.median(joins),
        lookup_datagrams=statistics.median(before.datagrams),
        lookup_round_trips=statistics.median(before.seconds) / (2 * DELAY),
        lookup_seconds=statistics.median(before.seconds),
        lookup_share=statistics.fmean(before.shares),
        announce_datagrams=statistics.fmean(sent),
        announce_bytes=statistics.fmean(rates),
        bootstrap_bytes=rates[0],
        busiest_bytes=max(rates[1:]),
        crowded_share=crowded / peers,
        vanished_share=statistics.fmean(after.shares),
        vanished_seconds=statistics.median(after.seconds),
        dead_share=statistics.fmean(after.dead),
        later_share=statistics.fmean(later.shares),
        later_dead_share=statistics.fmean(later.dead),
        layers_covered=sum(map(bool, seen)) / max(1, sum(map(bool, held))),
        chain_excess=(statistics.median(of_all), max(of_all)),
        found_excess=(statistics.median(of_found), max(of_found)),
    )


def measure(peers: int = 1000, seed: int = 1, tell: Tell = lambda _: None) -> Scale:
    """Everything, for so many peers: two minutes for a thousand, half an hour for ten thousand."""
    with seeded(seed), economy():
        return run_virtual(_measure(peers, seed, tell))
