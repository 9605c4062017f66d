"""The precision that is computed in where the user has left it open: what is asked of the machine and the files, and decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from swarm.engine.backends import Model
from swarm.kernels import library
from swarm.precision import AUTO, Plan, Wishes
from swarm.records import PeerRecord
from swarm.routing.plans import Machine, PlanChoice, choose_plan, served_plans
from swarm.span import LayerSpan
from swarm.worker.capacity import measure_capacity, resolve_device

CACHE_SHARE = 0.9  # of what the weights leave; the rest is for activations
SESSION_ROWS = 4096  # of usual length: as long as its caches find no room, a worker takes fewer layers
LOCAL_ROWS = 4096  # that a model which is computed here alone has room for


def machine_for(opened: Model, device: str, numerics: str, memory: int) -> Machine:
    """What of this computer counts for a model, where numerics are asked for so."""
    kernels, portable = library(), opened.numerics(numerics, "bf16", device).numerics == "portable"
    return Machine(memory, device, portable, kernels.path if kernels is not None else "")


def layer_sizes(opened: Model, precision: str, rows: int) -> list[int]:
    """Bytes of each layer beside caches for a session of so many rows, or of the model's context."""
    rows, sizes = min(rows, opened.spec.max_positions), []
    for layer in opened.spec.span:
        span = LayerSpan(layer, layer + 1)
        weights = opened.footprint(span, precision)
        sizes.append(weights + math.ceil((opened.footprint(span, precision, rows) - weights) / CACHE_SHARE))
    return sizes


def worker_precision(
    opened: Model,
    layers: LayerSpan | None,
    machine: Machine,
    records: Iterable[PeerRecord],
    now: float,
    wishes: Wishes,
) -> PlanChoice:
    """For a worker that holds these layers, or as many as fit, among the workers of its model. Raises ModelFault, UsageFault."""
    bonds = opened.spec.bonds
    alone = [LayerSpan(layer, layer + 1) for layer in opened.spec.span if not any(layer in bond for bond in bonds)]

    def needs(plan: str) -> int:
        sizes = layer_sizes(opened, plan, SESSION_ROWS)
        spans = [layers] if layers is not None else [*alone, *bonds]
        return min(sum(sizes[span.start : span.stop]) for span in spans)

    count = opened.spec.layer_count
    return choose_plan(served_plans(records, count, now), opened.own_precision, needs, machine, count, wishes)


def local_precision(
    device: str, numerics: str, told: Callable[[str], None] = lambda text: None
) -> Callable[[Model], str]:
    """For a model whose layers are all computed here. `told` hears of another precision than the files'."""

    def choose(opened: Model) -> str:
        spec = opened.spec
        place = resolve_device(device)
        machine = machine_for(opened, place, numerics, measure_capacity(place).memory_free)

        def needs(plan: str) -> int:
            return opened.footprint(spec.span, plan, min(LOCAL_ROWS, spec.max_positions), with_head=True)

        choice = choose_plan((), own := opened.own_precision, needs, machine, spec.layer_count)
        if choice.plan != own:
            told(f"precision {choice}")
        return choice.plan

    return choose


def settled(asked: str, opened: Model, wishes: Wishes) -> str | None:
    """What was asked for, in the spelling of the model's plan; None where it was left open. Raises UsageFault."""
    if asked == AUTO:
        return None
    return Plan.parse(asked).given(wishes.activations, wishes.cache).over(opened.spec.layer_count).name
