"""Which precision a worker chooses: the swarm's, the files', the highest that fits; and why, in one line."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.records import NOW, make_record

from swarm.errors import UsageFault
from swarm.precision import NO_WISHES, Plan, Wishes
from swarm.records import PeerState
from swarm.routing.plans import Machine, PlanChoice, ServedPlan, choose_plan, served_plans

LAYERS = 10
MIB = 1 << 20
SIZES = {"fp32": 400, "bf16": 200, "fp16": 200, "int8": 110, "int4": 60, "as-stored": 90}  # MiB
CPU = Machine(500 * MIB, "cpu", portable=True, instructions="avx512")
CUDA = Machine(500 * MIB, "cuda:0", portable=False)
MIXED = "0-4=bf16,5-9=int4"


def needs(plan: str) -> int:
    parsed = Plan.parse(plan).over(LAYERS)
    return sum(SIZES[parsed.of(layer)] * MIB // LAYERS for layer in range(LAYERS))


def chosen(own: str, machine: Machine, *served: str, wishes: Wishes = NO_WISHES) -> PlanChoice:
    plans = [ServedPlan(name, LAYERS - number, 2) for number, name in enumerate(served)]
    return choose_plan(plans, own, needs, machine, LAYERS, wishes)


@pytest.mark.parametrize(
    ("own", "machine", "served", "plan", "words"),
    [
        # the swarm's plan, whatever the files hold
        ("bf16", CPU, ["int4"], "int4", "2 workers of the swarm compute 10 of 10 layers so"),
        ("bf16", CPU, [MIXED, "bf16"], MIXED, "2 workers of the swarm"),
        ("fp32", CUDA, ["bf16"], "bf16", "2 workers of the swarm"),
        # unless it does not fit, or is not computed here
        ("bf16", replace(CPU, memory=150 * MIB), ["bf16", "int8"], "int8", "2 workers of the swarm compute 9 of 10"),
        (
            "bf16",
            replace(CPU, memory=150 * MIB),
            ["bf16"],
            "int8",
            "takes 200 MiB where 150 MiB.*the highest that fits",
        ),
        (
            "bf16",
            CUDA,
            ["int4"],
            "bf16",
            "computes in int4, which only portable kernels compute.*cuda:0.*files hold it",
        ),
        (
            "bf16",
            CPU,
            ["q5", "0-3=bf16"],
            "bf16",
            "computes in q5, which is not known here; so the model's files hold it",
        ),
        # an empty swarm: the files' own
        ("bf16", CPU, [], "bf16", "^so the model's files hold it"),
        ("fp32", CPU, [], "fp32", "files hold it"),
        ("fp16", CPU, [], "fp16", "files hold it"),
        ("as-stored", CPU, [], "as-stored", "files hold it"),
        # else the highest that fits
        ("fp32", replace(CPU, memory=210 * MIB), [], "bf16", "fp32, which takes 400 MiB where 210 MiB may be used"),
        ("fp32", replace(CPU, memory=70 * MIB), [], "int4", "the highest that fits"),
        ("fp16", replace(CPU, memory=150 * MIB), [], "int8", "the highest that fits"),
        ("as-stored", replace(CPU, memory=70 * MIB), [], "int4", "the highest that fits"),
        ("fp32", replace(CUDA, memory=210 * MIB), [], "bf16", "the highest that fits"),
        ("fp32", replace(CPU, memory=10 * MIB), [], "int4", "nothing fits, and this is the smallest"),
        ("bf16", replace(CUDA, memory=10 * MIB), [], "bf16", "nothing fits"),
        # what the device computes
        ("fp16", CUDA, [], "bf16", "the files hold fp16, which only portable kernels compute.*highest that fits"),
        ("as-stored", CUDA, [], "bf16", "the files hold as-stored, which only portable kernels compute"),
        # and what its instructions do well
        ("bf16", replace(CPU, instructions="plain"), [], "int8", "ten times as long in plain C"),
        ("as-stored", replace(CPU, instructions="plain"), [], "as-stored", "files hold it"),
        ("bf16", replace(CPU, instructions="plain"), ["bf16"], "bf16", "2 workers of the swarm"),
        ("bf16", replace(CPU, instructions="plain", portable=False), [], "bf16", "files hold it"),
    ],
)
def test_what_is_chosen(own: str, machine: Machine, served: list[str], plan: str, words: str) -> None:
    choice = chosen(own, machine, *served)
    assert choice.plan == plan
    assert re.search(words, choice.reason), choice.reason
    assert "\n" not in str(choice)


@pytest.mark.parametrize(
    ("own", "served", "wishes", "plan", "words"),
    [
        # without a wish, whatever the swarm says
        (
            "bf16",
            ["int4+activations-int16+cache-int8", "int4"],
            Wishes(),
            "int4+activations-int16+cache-int8",
            "2 workers",
        ),
        # with one, workers that compute so, then what the files hold
        ("bf16", ["int4", "int4+cache-int8"], Wishes(cache="int8"), "int4+cache-int8", "2 workers of the swarm"),
        (
            "bf16",
            ["int4"],
            Wishes(cache="int8"),
            "bf16+cache-int8",
            "int4, which has caches of bf16 and not of int8; so the",
        ),
        ("as-stored", ["as-stored"], Wishes("int16"), "as-stored+activations-int16", "has activations of int8"),
        ("bf16", ["bf16+cache-int8"], Wishes(cache="bf16"), "bf16", "has caches of int8 and not of bf16"),
        (
            "bf16",
            ["bf16"],
            Wishes("int16"),
            "bf16",
            "2 workers of the swarm",
        ),  # there are no integers, so nothing is lost
    ],
)
def test_what_is_chosen_of_a_users_wishes(own: str, served: list[str], wishes: Wishes, plan: str, words: str) -> None:
    choice = chosen(own, CPU, *served, wishes=wishes)
    assert choice.plan == plan
    assert re.search(words, choice.reason), choice.reason


def test_a_wish_holds_for_whatever_fits() -> None:
    both, small = Wishes("int16", "int8"), replace(CPU, memory=70 * MIB)
    assert chosen("bf16", small, wishes=both).plan == "int4+activations-int16+cache-int8"
    assert chosen("bf16", replace(CPU, instructions="plain"), wishes=both).plan == "int8+activations-int16+cache-int8"


def test_a_wish_that_nobody_computes_there_is_refused() -> None:
    for wishes in (Wishes("int16"), Wishes(cache="int8")):
        with pytest.raises(
            UsageFault, match="only portable numerics compute so, and these do not run this model on cuda:0"
        ):
            chosen("bf16", CUDA, wishes=wishes)
    assert chosen("fp32", CUDA, wishes=Wishes(cache="bf16")).plan == "bf16"


def test_what_a_swarm_serves() -> None:
    records = [
        make_record(1, "0-5"),
        make_record(2, "4-9", state=PeerState.LOADING),
        make_record(3, "0-9", precision="int4"),
        make_record(4, "0-9", precision="fp32", state=PeerState.DRAINING),
        make_record(5, "0-9", precision="fp32", expires_at=NOW),
        make_record(6, "2-3", precision="int8"),
    ]
    assert served_plans(records, LAYERS, NOW) == [
        ServedPlan("bf16", 10, 2),
        ServedPlan("int4", 10, 1),
        ServedPlan("int8", 2, 1),
    ]
