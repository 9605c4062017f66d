"""What can befall a simulated swarm. Each fault is data with `apply` and `undo`; which of them, and when, a seed decides.

Undoing what another fault has undone already does nothing, so faults may overlap as they like. A fault may be aimed at the
worker that is being asked at that moment: it then stands in the schedule with `ASKED` as its peer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, Protocol

from chaos.liars import Lie
from chaos.simulation.peers import BOOTSTRAP
from chaos.simulation.surroundings import Topology
from chaos.simulation.world import World
from swarm.span import LayerSpan

ASKED = "the worker asked"
WINDOW_SECONDS = 8.0  # faults begin within so long
WINDOW_STEPS = 40  # or before so many rows were sent to a worker
MOST_FAULTS = 10
AIMED_SHARE = 0.6  # of all faults
LONGEST_SECONDS = 10.0  # that a fault is in force
LIAR_SHARE = 0.25  # of seeds
CLIENT_SHARE = 0.25  # of seeds, in which all rows go by the client
STANDBY_SHARE = 0.33  # of seeds, in which workers stand by
LIAR_STEPS = 10  # a lie begins before so many rows were sent to a worker
MOST_SKEW = 3600.0  # seconds; records live for 60


class Fault(Protocol):
    """Something that befalls the swarm, and how it ends."""

    def apply(self, world: World) -> None: ...

    def undo(self, world: World) -> None: ...


@dataclass(frozen=True, slots=True)
class Crash:
    """A process dies; undone, it is started again, with the same key and no memory."""

    peer: str

    def apply(self, world: World) -> None:
        world.peers[self.peer].kill()

    def undo(self, world: World) -> None:
        world.spawn(world.peers[self.peer].start())


@dataclass(frozen=True, slots=True)
class Drain:
    """A worker is told to stop and does so in order; undone, it is started again."""

    peer: str

    def apply(self, world: World) -> None:
        world.worker(self.peer).drain()

    def undo(self, world: World) -> None:
        world.spawn(world.peers[self.peer].start())


@dataclass(frozen=True, slots=True)
class Pause:
    """A process stops, as by SIGSTOP: nothing of it arrives anywhere, and nothing breaks."""

    peer: str

    def apply(self, world: World) -> None:
        peer = world.peers[self.peer]
        if peer.alive:
            world.hub.freeze(peer.peer_id)
            world.switch.pause(peer.host)

    def undo(self, world: World) -> None:
        peer = world.peers[self.peer]
        world.hub.thaw(peer.peer_id)
        world.switch.resume(peer.host)


@dataclass(frozen=True, slots=True)
class Cut:
    """No byte and no datagram comes from the one to the other; perhaps none back either."""

    one: str
    other: str
    both: bool

    def apply(self, world: World) -> None:
        one, other = world.peers[self.one], world.peers[self.other]
        world.hub.cut(one.peer_id, other.peer_id, both=self.both)
        world.switch.cut(one.host, other.host, both=self.both)

    def undo(self, world: World) -> None:
        one, other = world.peers[self.one], world.peers[self.other]
        world.hub.heal(one.peer_id, other.peer_id)
        world.switch.mend(one.host, other.host)


@dataclass(frozen=True, slots=True)
class Delay:
    """Whatever a peer sends or is sent takes longer."""

    peer: str
    seconds: float

    def apply(self, world: World) -> None:
        peer = world.peers[self.peer]
        world.hub.slowed[peer.peer_id] = world.switch.slowed[peer.host] = self.seconds

    def undo(self, world: World) -> None:
        peer = world.peers[self.peer]
        world.hub.slowed.pop(peer.peer_id, None)
        world.switch.slowed.pop(peer.host, None)


@dataclass(frozen=True, slots=True)
class BadDatagrams:
    """Datagrams are lost, doubled and damaged, and overtake each other, everywhere."""

    loss: float  # the part that vanishes
    duplication: float  # the part that comes twice
    damage: float  # the part in which a bit is flipped, or that is cut short
    jitter: float  # seconds at most

    def apply(self, world: World) -> None:
        switch = world.switch
        switch.loss, switch.duplication, switch.damage, switch.jitter = (
            self.loss,
            self.duplication,
            self.damage,
            self.jitter,
        )

    def undo(self, world: World) -> None:
        switch = world.switch
        switch.loss = switch.duplication = switch.damage = switch.jitter = 0.0


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a peer are cut short or flipped on their way: its streams end there, as TLS would have it."""

    peer: str
    keep: float  # the part of what is under way that still arrives

    def apply(self, world: World) -> None:
        peer = world.peers[self.peer]
        if peer.alive:
            world.hub.damage(peer.peer_id, self.keep)

    def undo(self, world: World) -> None:
        """What is broken is made anew by those who need it."""


@dataclass(frozen=True, slots=True)
class Skew:
    """A peer's clock is off."""

    peer: str
    seconds: float

    def apply(self, world: World) -> None:
        world.peers[self.peer].skew = self.seconds

    def undo(self, world: World) -> None:
        world.peers[self.peer].skew = 0.0


@dataclass(frozen=True, slots=True)
class Slow:
    """A worker computes more slowly than it says."""

    peer: str
    factor: float

    def apply(self, world: World) -> None:
        world.worker(self.peer).compute.seconds = self.factor * world.topology.step_seconds

    def undo(self, world: World) -> None:
        world.worker(self.peer).compute.seconds = world.topology.step_seconds


@dataclass(frozen=True, slots=True)
class FullCache:
    """Another has taken a worker's cache: it opens no session. Its running ones are not touched."""

    peer: str

    def apply(self, world: World) -> None:
        worker = world.worker(self.peer)
        if worker.alive:
            pool = worker.service.stage.pool
            pool.budget = pool.reserved

    def undo(self, world: World) -> None:
        worker = world.worker(self.peer)
        worker.service.stage.pool.budget = world.prepared.stage(worker.span, worker.precision).pool.budget


@dataclass(frozen=True, slots=True)
class Lies:
    """A worker's rows are wrong, and signed all the same."""

    peer: str
    lie: str  # see `chaos.liars`
    when: str  # "always", or "replays"

    def apply(self, world: World) -> None:
        worker = world.worker(self.peer)
        worker.inside = replace(worker.inside, lie=self.lie, when=self.when)
        world.liars.add(self.peer)

    def undo(self, world: World) -> None:
        worker = world.worker(self.peer)
        worker.inside = replace(worker.inside, lie=None)


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault with its time."""

    step: int | None  # the fault waits until clients have sent rows so many times
    at: float  # virtual seconds from then, or after the beginning
    seconds: float  # how long it is in force
    fault: Fault

    def __str__(self) -> str:
        when = f"{self.at:.3f} s" if self.step is None else f"step {self.step} + {self.at:.3f} s"
        return f"at {when} for {self.seconds:.3f} s: {self.fault!r}"


def aimed(fault: Any, asked: str) -> Any:
    """The fault with that worker in the place of `ASKED`."""
    changes = {each.name: asked for each in fields(fault) if getattr(fault, each.name) == ASKED}
    return replace(fault, **changes)


def draw_topology(random: Random) -> tuple[Topology, bool]:
    """A swarm, and whether it is guarded: its first workers, one for each client's precision, hold every layer, and are
    spared by all faults."""
    clients = tuple(random.choice(("fp32", "bf16")) for _ in range(random.randint(1, 2)))
    precisions = tuple(dict.fromkeys(clients))
    guarded = random.random() < 0.3
    workers: list[tuple[LayerSpan, str]] = []
    for precision in precisions:
        if guarded or random.random() < 0.3:
            workers.append((LayerSpan(0, 2), precision))
        else:
            workers += [(LayerSpan(0, 1), precision), (LayerSpan(1, 2), precision)]
    spans = (LayerSpan(0, 1), LayerSpan(1, 2), LayerSpan(0, 2))
    workers += [(random.choice(spans), random.choice(precisions)) for _ in range(random.randint(1, 3))]
    if not guarded:
        random.shuffle(workers)
    latency = random.choice((0.0005, 0.002, 0.02, 0.08))
    step_seconds = random.choice((0.01, 0.1, 0.3))
    ways = {"direct": random.random() >= CLIENT_SHARE, "standby": random.random() < STANDBY_SHARE}
    return Topology(tuple(workers), clients, latency, step_seconds, **ways), guarded


def spared(topology: Topology, guarded: bool) -> list[str]:
    """Workers that no fault befalls."""
    return [f"w{index}" for index in range(len(set(topology.clients)))] if guarded else []


def draw_faults(random: Random, topology: Topology, guarded: bool) -> list[Planned]:
    """A schedule. Aimed faults must still be kept from who is spared."""
    calm = spared(topology, guarded)
    workers = [f"w{index}" for index in range(len(topology.workers)) if f"w{index}" not in calm]
    clients = [f"c{index}" for index in range(len(topology.clients))]
    planned = []
    for _ in range(random.randint(1, MOST_FAULTS)):
        seconds = random.uniform(0.05, LONGEST_SECONDS) * random.choice((0.02, 0.3, 1.0, 4.0))
        if random.random() < AIMED_SHARE:
            fault = random.choice(_MAKERS)(random, [ASKED], clients, guarded)
            delay = random.choice((0.0, random.uniform(0.0, 2 * topology.step_seconds)))
            planned.append(Planned(random.randint(1, WINDOW_STEPS), delay, seconds, fault))
        else:
            fault = random.choice(_MAKERS)(random, workers, clients, guarded)
            planned.append(Planned(None, random.uniform(0.0, WINDOW_SECONDS), seconds, fault))
    if random.random() < LIAR_SHARE:  # one liar at most: two who agree could frame others
        fault = Lies(ASKED, random.choice(tuple(Lie)), random.choice(("always", "always", "replays")))
        planned.append(Planned(random.randint(1, LIAR_STEPS), 0.0, LONGEST_SECONDS, fault))
    return planned


Maker = Callable[[Random, Sequence[str], Sequence[str], bool], Fault]


def _crash(random: Random, workers: Sequence[str], clients: Sequence[str], guarded: bool) -> Fault:
    return Crash(random.choice(workers if guarded else [*workers, *workers, *clients, BOOTSTRAP]))


def _pause(random: Random, workers: Sequence[str], clients: Sequence[str], guarded: bool) -> Fault:
    return Pause(random.choice(workers if guarded else [*workers, *workers, *workers, *clients]))


def _cut(random: Random, workers: Sequence[str], clients: Sequence[str], guarded: bool) -> Fault:
    one = random.choice(workers)
    other = random.choice([name for name in (BOOTSTRAP, *workers, *clients, *clients) if name != one])
    if random.random() < 0.5:
        one, other = other, one
    return Cut(one, other, both=random.random() < 0.5)


def _bad_datagrams(random: Random, workers: Sequence[str], clients: Sequence[str], guarded: bool) -> Fault:
    most = 0.05 if guarded else 0.5
    return BadDatagrams(
        loss=random.uniform(0.0, most),
        duplication=random.uniform(0.0, 0.5),
        damage=random.uniform(0.0, most),
        jitter=random.choice((0.0, 0.02, 0.3)),
    )


def _skew(random: Random, workers: Sequence[str], clients: Sequence[str], guarded: bool) -> Fault:
    whose = random.choice([*workers, *workers, *clients, BOOTSTRAP])
    return Skew(whose, random.choice((random.uniform(-MOST_SKEW, MOST_SKEW), random.uniform(-60.0, 60.0))))


_MAKERS: tuple[Maker, ...] = (
    _crash,
    _crash,
    _cut,
    _cut,
    _bad_datagrams,
    _pause,
    _pause,
    lambda random, workers, *_: Drain(random.choice(workers)),
    lambda random, workers, *_: Delay(random.choice(workers), random.choice((0.05, 0.3, 1.0))),
    lambda random, workers, *_: Damage(random.choice(workers), random.random()),
    _skew,
    lambda random, workers, *_: Slow(random.choice(workers), random.choice((3.0, 10.0, 30.0))),
    lambda random, workers, *_: FullCache(random.choice(workers)),
)
