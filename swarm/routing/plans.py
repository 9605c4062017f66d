"""Which precision a new worker computes in, where nobody has said it. Knows what others announce and what memory plans take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from swarm.errors import UsageFault
from swarm.precision import FLOATS, NO_WISHES, Plan, Wishes
from swarm.records import PeerRecord, PeerState
from swarm.routing.finder import newest_records

LADDER = ("fp32", "bf16", "int8", "int4")  # by what a model loses, least first
PLAIN = "plain"  # the instruction set of kernels in plain C, where an fma is made of many steps: floats take ten times as long
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ServedPlan:
    """What a swarm serves of one model in one plan."""

    name: str
    layers: int  # that somebody holds
    workers: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What a computer has for a model."""

    memory: int  # bytes that may be used
    device: str  # such as "cpu" or "cuda:0"
    portable: bool  # whether portable kernels compute the model on it
    instructions: str = ""  # that these use, such as "avx512"


@dataclass(frozen=True, slots=True)
class PlanChoice:
    """A plan, and why."""

    plan: str
    reason: str  # goes on after the plan's name

    def __str__(self) -> str:
        return f"{self.plan}: {self.reason}"


def served_plans(records: Iterable[PeerRecord], layer_count: int, now: float) -> list[ServedPlan]:
    """What workers of one model serve or load, by how much of it is there, most first."""
    held: dict[str, set[int]] = {}
    workers: dict[str, int] = {}
    for record in newest_records(records):
        if record.expired(now) or record.state not in (PeerState.SERVING, PeerState.LOADING):
            continue
        held.setdefault(record.precision, set()).update(range(record.span.start, min(record.span.stop, layer_count)))
        workers[record.precision] = workers.get(record.precision, 0) + 1
    found = [ServedPlan(name, len(layers), workers[name]) for name, layers in held.items()]
    return sorted(found, key=lambda each: (-each.layers, -each.workers, each.name))


def choose_plan(
    served: Sequence[ServedPlan],
    own: str,
    needs: Callable[[str], int],
    machine: Machine,
    layer_count: int,
    wishes: Wishes = NO_WISHES,
) -> PlanChoice:
    """The plan that most of the swarm computes in, if it fits; else the files' `own` precision, else the highest that fits.

    `needs` says what a plan takes of memory, with room for caches. Where nothing fits the smallest is chosen, and whoever loads
    it says so. In plain C integers are preferred to floats. What the user wishes besides holds whichever is chosen. Raises
    UsageFault where nobody computes that here.
    """
    if not machine.portable and wishes.only_portable is not None:
        raise UsageFault(
            f"{wishes.only_portable}: only portable numerics compute so, and these do not run this model on {machine.device}"
        )
    held, own, ladder = own, _wished(own, wishes), [_wished(name, wishes) for name in LADDER]
    passed = ""
    for each in served:
        why_not = _obstacle(each.name, needs, machine, layer_count, wishes)
        if why_not is None:
            workers = (
                f"{each.workers} workers of the swarm compute" if each.workers > 1 else "1 worker of the swarm computes"
            )
            return PlanChoice(each.name, f"{workers} {each.layers} of {layer_count} layers so")
        passed = passed or f"the swarm computes in {each.name}, which {why_not}; "
    why_not = _obstacle(own, needs, machine, layer_count)
    if why_not is None:
        if machine.portable and machine.instructions == PLAIN and held in FLOATS:
            slow = f"floats, such as the files' {held}, would take ten times as long in plain C: no faster instructions are here"
            return PlanChoice(_wished("int8", wishes), passed + slow)
        return PlanChoice(own, f"{passed}so the model's files hold it")
    passed += f"the files hold {held}, which {why_not}; "
    known = [name for name in ladder if machine.portable or not Plan.parse(name).only_portable]
    if _computed(own, machine):
        known = [name for name in known if needs(name) < needs(own)] or [own]
    for name in known:
        if name in ladder[LADDER.index(_ceiling(held)) :] and needs(name) <= machine.memory:
            return PlanChoice(name, f"{passed}this is the highest that fits")
    smallest = min(known, key=needs)
    return PlanChoice(smallest, f"{passed}nothing fits, and this is the smallest")


def _ceiling(own: str) -> str:
    """Nothing is gained by more bits than files hold."""
    return own if own in LADDER else "bf16"


def _wished(name: str, wishes: Wishes) -> str:
    return wishes.applied(Plan.parse(name)).name


def _known(name: str, layer_count: int) -> bool:
    """In the one spelling that workers of a plan must share."""
    try:
        return Plan.parse(name).over(layer_count).name == name
    except UsageFault:
        return False


def _computed(name: str, machine: Machine) -> bool:
    return machine.portable or not Plan.parse(name).only_portable


def _obstacle(
    name: str, needs: Callable[[str], int], machine: Machine, layer_count: int, wishes: Wishes = NO_WISHES
) -> str | None:
    """Why a plan cannot be computed here, in words that go on after its name and "which"; None if it can."""
    if not _known(name, layer_count):
        return "is not known here"
    if (unmet := wishes.unmet(Plan.parse(name))) is not None:
        return unmet
    if not _computed(name, machine):
        return f"only portable kernels compute, and those do not run this model on {machine.device}"
    needed = needs(name)
    if needed > machine.memory:
        return f"takes {needed / MIB:.0f} MiB where {machine.memory / MIB:.0f} MiB may be used"
    return None
