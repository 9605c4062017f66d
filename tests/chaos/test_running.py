"""One scenario after another: a crash of one is told and leaves the rest, and what was run is written whatever happens."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from chaos.runner import running
from chaos.runner.run import Outcome, Run, Setup, goes_on
from chaos.runner.running import expected_seconds, run_all
from chaos.scenarios import find

KILL, STALL, CHURN = (find(name) for name in ("kill", "stall", "churn"))
SETUP = Setup(Path("model"), 24, seconds=30.0)


def run_three(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException
) -> tuple[list[dict[str, object]], str, str]:
    """Three scenarios, of which the second ends with `error`: what is in the JSON file, on the page and on the screen."""
    assert KILL is not None
    assert STALL is not None
    assert CHURN is not None

    async def run(self: Run) -> Outcome:
        if self.scenario is STALL:
            raise error
        return self.outcome

    monkeypatch.setattr(running.Run, "run", run)
    figures, page, screen = tmp_path / "figures.json", tmp_path / "page.md", io.StringIO()
    wanted = [(each, SETUP) for each in (KILL, STALL, CHURN)]
    try:
        run_all(wanted, figures, page, Console(file=screen, width=200))
    finally:
        written = json.loads(figures.read_text())["scenarios"], page.read_text(), screen.getvalue()
    return written


def test_a_crash_is_told_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    everything, page, screen = run_three(monkeypatch, tmp_path, RuntimeError("the harness is broken"))
    assert [each["scenario"] for each in everything] == ["kill", "stall", "churn"]
    assert [each["passed"] for each in everything][1:] == [False, True]
    assert "RuntimeError: the harness is broken" in page
    assert "RuntimeError: the harness is broken" in screen
    assert "3 of 3: 17 churn" in screen


def test_what_was_run_is_written_when_it_is_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_three(monkeypatch, tmp_path, KeyboardInterrupt())
    assert [each["scenario"] for each in json.loads((tmp_path / "figures.json").read_text())["scenarios"]] == ["kill"]
    assert "Only 1 of 3 scenarios were run." in (tmp_path / "page.md").read_text()


def test_a_load_goes_on_until_there_are_requests_enough_whatever_the_clock_says() -> None:
    for name in ("churn", "crowd"):
        case = find(name).cases[0]
        assert case.seconds is not None
        assert goes_on(case, 5000, case.seconds - 1, False)
        assert goes_on(case, 999, case.seconds + 1, False)
        assert not goes_on(case, 1000, case.seconds + 1, True)
    case = find("kill").cases[0]
    assert goes_on(case, 0, 9.0, False)
    assert goes_on(case, 1, 9.0, True)
    assert not goes_on(case, 1, 9.0, False)


def test_whoever_is_hunted_is_asked_until_he_is_found() -> None:
    unlike = find("unlike")
    assert unlike is not None
    for case in (case for case in unlike.cases if case.hunted):
        assert goes_on(case, 1, 9.0, False)
        assert not goes_on(case, 1, 9.0, False, caught=True)
        assert not goes_on(case, case.requests, 9.0, False)
    assert sum(case.hunted for case in unlike.cases) == unlike.limits.caught


def test_the_time_left_follows_the_clock_of_the_cases() -> None:
    assert CHURN is not None
    short, long = (expected_seconds(CHURN, Setup(Path("model"), 24, seconds=seconds)) for seconds in (10.0, 100.0))
    assert long - short == 90.0 * len(CHURN.cases)
