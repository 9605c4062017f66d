"""What must hold is noticed when it does not; figures and reports are made of the same outcomes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.faults import Lies
from chaos.runner.conductor import Clocked
from chaos.runner.invariants import breaches, percentile, resumed
from chaos.runner.load import Request
from chaos.runner.report import COLUMNS, as_json, figures, markdown, row
from chaos.runner.run import CaseResult, Outcome, Setup
from chaos.runner.starts import StartResult
from chaos.scenarios import Case, Limits, Moment, Scenario, Strike, Target
from chaos.scenarios.model import Start

EXPECTED = (5, 6, 7)
LAYERS = {0: "0-7", 1: "8-15"}


def answered(**changes) -> Request:
    """A request that got the right tokens, a second apart."""
    request = Request("a case", 0, EXPECTED, began=100.0)
    request.ids, request.indexes, request.times, request.ended = [*EXPECTED], [0, 1, 2], [101.0, 102.0, 103.0], 103.0
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def outcome(*requests: Request, case: Case | None = None, limits: Limits | None = None, **changes) -> Outcome:
    result = CaseResult(case or Case("a case", ()), list(requests), Clocked(), seconds=3.0)
    for name, value in changes.items():
        setattr(result, name, value)
    scenario = Scenario(0, "imagined", "An imagined one", (result.case,), limits=limits or Limits())
    made = Outcome(scenario, Setup(Path("model"), 24))
    made.undisturbed = CaseResult(Case("undisturbed", ()), [answered()], Clocked(), seconds=2.0)
    made.cases.append(result)
    return made


def found(made: Outcome) -> list[str]:
    return [str(breach) for breach in breaches(made, LAYERS)]


def test_nothing_is_wrong_with_a_good_run() -> None:
    assert found(outcome(answered(), answered())) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ids": [5, 9, 7]}, "I1, a case: request 0: token 1 is 9, the unsplit model's is 6"),
        ({"exact": False}, "I1, a case: request 0: the session calls itself inexact"),
        ({"hung": True, "error": "it did not end"}, "I2, a case: request 0 did not end within 120 s"),
        ({"times": [101.0, 102.0, 118.0], "ended": 118.0}, "I2, a case: request 0: 16.0 s without a sign of life"),
        ({"indexes": [0, 1, 1]}, "I3, a case: request 0: the stream's indexes are [0, 1, 1]"),
        ({"ids": [5, 6], "indexes": [0, 1]}, "I3, a case: request 0: 2 of 3 tokens, and no error"),
    ],
)
def test_a_bad_answer(changes: dict, says: str) -> None:
    assert says in found(outcome(answered(**changes)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"settled": None, "unsettled": "worker-0a has 1 sessions"},
            "I4, a case: not at rest after a minute: worker-0a",
        ),
        ({"leftover_files": 9}, "I4, a case: the client left 9 files open"),
        ({"leftover_tasks": ("renewals",)}, "I4, a case: the client left tasks: renewals"),
        ({"fired": False}, "schedule, a case: a fault of the case was never applied"),
    ],
)
def test_a_bad_case(changes: dict, says: str) -> None:
    assert [text for text in found(outcome(answered(), **changes)) if text.startswith(says)]


def test_a_sign_of_life_is_no_silence() -> None:
    made = outcome(answered(times=[101.0, 102.0, 118.0], ended=118.0))
    made.cases[0].clocked.signs = [110.0]
    assert found(made) == []


def test_what_a_scenario_promises() -> None:
    made = outcome(answered(recoveries=1), limits=Limits(suspects=False, recoveries=0))
    made.cases[0].clocked.noticed["crash"] = [0.1] * 18 + [2.0, 2.0]
    made.cases[0].clocked.noticed["stall"] = [4.0]
    made.cases[0].clocked.suspected = [("worker-0a", 90.0)]
    made.complaints = ["worker-0a: Traceback"]
    assert found(made) == [
        "I6, a case: worker-0a is suspected for 90 s",
        "I7, all: worker-0a: Traceback",
        "limit, all: a crash was noticed after 2.00 s (p95), 1 s are promised",
        "limit, all: suspected: worker-0a",
        "limit, all: 1 failovers where none is needed",
    ]


def test_errors_lower_success_and_missing_faults_are_told() -> None:
    made = outcome(answered(error="NoChain: nobody"), answered(), limits=Limits(success=0.9, recoveries=3))
    assert found(made) == [
        "limit, all: 1 of 2 requests succeeded; NoChain: nobody",
        "limit, all: 0 failovers, at least 3 were to be forced",
    ]


def test_liars_may_be_banned_and_honest_members_not() -> None:
    case = Case("a liar", (Strike(Lies("identity"), Target("hop", 1), Moment("before")),))
    made = outcome(answered(ids=[5, 9, 7]), case=case, limits=Limits(caught=1))
    made.cases[0].clocked.liars = {"worker-1a"}
    assert found(made) == ["limit, all: 0 liars were banned, at least 1 were to be"]
    made.cases[0].clocked.banned = ["worker-1a"]
    made.cases[0].clocked.suspected = [("worker-1a", 90.0)]
    assert found(made) == []
    made.cases[0].clocked.banned.append("worker-2b")
    assert found(made) == ["I6, a liar: worker-2b is banned and never lied"]


def test_a_slow_worker_is_to_be_left_in_time() -> None:
    made = outcome(answered(), limits=Limits(slow_steps=3))
    laggards = made.cases[0].clocked.laggards
    laggards.steps = {"a": 3, "b": 4, "c": 1}
    laggards.left = {"a", "b"}
    assert found(made) == [
        "limit, all: a case: b was left after 4 slow steps, 3 are allowed",
        "limit, all: a case: c was slow and was not left",
    ]


def test_a_request_that_is_to_fail_names_the_layers() -> None:
    case = Case("gone", (), failing=1)
    assert found(outcome(answered(error="NoChain: nobody serves layers 8-15"), case=case)) == []
    assert "it succeeded" in found(outcome(answered(), case=case))[0]


def test_the_return_of_a_worker_is_clocked() -> None:
    made = outcome(answered(times=[101.0, 111.0, 111.5], ended=111.5), limits=Limits(resumed=5.0))
    made.cases[0].clocked.returns = [105.0]
    assert found(made) == ["limit, all: went on 6.0 s after the return, 5 s are promised"]


def test_of_two_returns_the_later_counts() -> None:
    made = outcome(answered(times=[101.0, 113.0, 113.5], ended=113.5), limits=Limits(resumed=5.0))
    made.cases[0].clocked.returns = [105.0, 110.0]
    assert resumed(made) == [3.0]


@pytest.mark.parametrize(("part", "value"), [(0.5, 2.0), (0.95, 4.0), (1.0, 4.0), (0.01, 1.0)])
def test_percentiles_are_ranks(part: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], part) == value
    assert percentile([], part) is None


def test_memory_that_grows_and_starts_that_go_wrong_are_told() -> None:
    made = outcome(answered())
    made.cases[0].memory.samples["worker-0a", 1] = [(float(at), (1000 + at) << 20) for at in range(0, 720, 2)]
    start = Start("full, with a key", disk="full")
    made.starts = [StartResult(start, "mounts", 3, False, "swarm: no", (), 1.0)]
    assert [text.split(" grows")[0] for text in found(made)] == [
        "I5, a case: worker-0a",
        "start, full, with a key: it was to serve, but: exit code 3: swarm: no",
    ]
    page = markdown([figures(made, [])], wanted=2)
    assert "- a case: memory in ten minutes: worker-0a +5" in page
    assert "- full, with a key: it was to serve" in page
    assert "Only 1 of 2 scenarios were run." in page


def test_a_right_answer_is_kept_once() -> None:
    request, wrong = answered(), answered(ids=[5, 6])
    request.settle()
    wrong.settle()
    assert request.ids is request.expected
    assert request.right
    assert found(outcome(request)) == []
    assert wrong.ids == [5, 6]


@pytest.mark.parametrize(
    ("flipped", "said", "wrong"),
    [
        (True, "tensor a.b: damaged", None),
        (True, "something is damaged", "it does not say a.b: something is damaged"),
        (True, "Traceback (most recent call last)", "Traceback"),
    ],
)
def test_a_refusal_names_what_is_wrong(flipped: bool, said: str, wrong: str | None) -> None:
    start = Start("a flipped bit", flipped=flipped, serves=False)
    told = StartResult(start, "nothing", 3, False, said, ("a.b",), 1.0).wrong
    assert told == wrong if wrong is None else told is not None and told.startswith(wrong)
    assert StartResult(start, "nothing", None, True, "", ("a.b",), 1.0).wrong == "it serves"


def test_figures() -> None:
    made = outcome(answered(replayed=12), answered(error="NoChain: nobody", ids=[5], indexes=[0], times=[101.0]))
    made.cases[0].clocked.recovered["crash"] = [0.2, 0.4]
    made.cases[0].clocked.refilled += [1.5]
    made.resources = {"worker-0a": ((1 << 20, 10), (3 << 20, 11)), "worker-1a": ((1 << 20, 10), None)}
    each = figures(made, breaches(made, LAYERS))
    assert (each["requests"], each["success_rate"], each["rows_replayed"]) == (2, 0.5, 12)
    assert (each["tokens"], each["tokens_lost"], each["tokens_duplicated"], each["tokens_wrong"]) == (4, 0, 0, 0)
    assert each["recovery"]["crash"] == {"p50": 0.2, "p95": 0.4, "max": 0.4}
    assert each["refilled"] == {"p50": 1.5, "p95": 1.5, "max": 1.5}
    assert each["goodput"] == round(4 / 3 / 1.5, 3)
    assert not each["passed"]
    assert json.loads(as_json([each]))["scenarios"] == [each]
    assert len(row(each)) == len(COLUMNS)
    page = markdown([each])
    assert "worker-0a +2 MiB, +1 files" in page
    assert "- breach: limit, all: 1 of 2 requests succeeded; NoChain: nobody" in page
