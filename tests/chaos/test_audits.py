"""Liars and audits in the small: `python -m chaos audits --sessions 10000` is the same in the large."""

from dataclasses import replace

import pytest

from chaos.liars import Lie
from chaos.simulation.audits import measure, page, run_trial, summary, table
from chaos.simulation.trials import LIES, OTHER_CLASS, REFUSED, UNLIKE, trials

BELOW_TOLERANCE = (Lie.LAST_BIT, Lie.ONE_ROW, Lie.SMALL_NOISE)


@pytest.fixture(scope="module")
def found():
    return measure(150, seed=3)


def test_nobody_honest_is_banned_or_avoided(found):
    assert sum(one.audited for one in found) > 140
    for one in found:
        assert not one.trial.promised or one.honest_banned == 0, one
        assert not (one.trial.promised and one.trial.settled) or one.honest_avoided == 0, one
        assert one.failed == 0


def test_every_audit_of_wrong_rows_bans_the_liar_in_one_class(found):
    same = [one for one in found if one.trial.group == "one class"]
    assert {one.trial.name for one in same} == {*LIES, *REFUSED}
    assert sum(one.of_liars for one in same) > 5
    assert all(one.caught == one.of_liars for one in same)


def test_among_unlike_computers_every_liar_is_caught_and_nobody_else(found):
    among = [one for one in found if one.trial.group == UNLIKE]
    assert {*LIES, *REFUSED} <= {one.trial.name for one in among}
    assert sum(one.of_liars for one in among) > 5
    assert all(one.caught == one.of_liars for one in among)
    assert sum(one.honest_banned + one.honest_avoided for one in among) == 0
    assert sum(one.failovers for one in among) > 3


def test_in_another_class_whatever_saves_a_liar_work_is_seen(found):
    for one in found:
        if one.trial.group == OTHER_CLASS:
            assert one.missed == 0 or one.trial.name in BELOW_TOLERANCE, one


def trial(name):
    return next(each for each in trials() if each.name == name)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_row_is_refused_as_it_comes(name):
    figures = run_trial(trial(name), 4, seed=5)
    assert figures.refused > 0
    assert figures.failovers >= figures.refused
    assert figures.of_liars == figures.wrong_answers == 0


@pytest.mark.parametrize("one", [each for each in trials() if each.group == "framing"], ids=lambda one: one.name)
def test_who_frames_others_is_banned_himself(one):
    figures = run_trial(one, 8, seed=7)
    assert figures.banned > 0
    assert (figures.honest_banned, figures.honest_avoided) == (0, 0)


def test_without_a_third_both_are_only_avoided():
    figures = run_trial(trial("two workers, one lies"), 4, seed=5)
    assert figures.banned == figures.honest_banned == 0
    assert figures.of_liars == figures.avoided > 0
    assert figures.honest_avoided > 0


def test_answers_that_nobody_lied_in_are_right(found):
    assert all(one.wrong_answers == 0 for one in found if one.trial.group == "nobody lies")
    assert sum(one.wrong_answers for one in found) > 0


def test_a_trial_goes_the_same_way_each_time(found):
    again = run_trial(trial("identity"), 2, seed=9)
    assert replace(again, cpu_seconds=0.0) == replace(run_trial(trial("identity"), 2, seed=9), cpu_seconds=0.0)


def test_the_page_says_how_it_came_about(found):
    text = page(found, 3)
    assert "--seed 3" in text
    assert summary(found) in text
    assert len(table(found).splitlines()) == len(found) + 2


@pytest.mark.soak
def test_ten_thousand_audited_sessions_among_twins_and_as_many_among_unlike_computers():
    found = measure(20_000)
    assert sum(one.audited for one in found if one.trial.promised) >= 19_000
    assert sum(one.audited for one in found if one.trial.group == UNLIKE) >= 10_000
    assert all(one.honest_banned == 0 for one in found if one.trial.promised)
    assert all(one.missed == 0 for one in found if one.trial.group in ("one class", UNLIKE))
