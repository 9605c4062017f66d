"""Slow or not: what makes a hop one to leave, and all that must not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.client.failover.stragglers import (
    EXCESS_SECONDS,
    FIRST_PAUSE_SECONDS,
    HORIZON_STEPS,
    MOST_PAUSE_SECONDS,
    PAST_STEPS,
    SLOW_STEPS,
    SLOWER,
    HopTempo,
    Slowness,
    Step,
    Tries,
    judge,
    pays,
)
from swarm.wire.rows import Rows

bases = st.floats(0.001, 2.0)
noise = st.lists(st.floats(0.8, 3.5), max_size=120)


def decode(seconds: float, queue_rows: int = 0, shared: bool = False) -> Step:
    return Step(Rows.DECODE, 1, seconds, queue_rows, shared)


def chunk(seconds: float, rows: int = 128, shared: bool = False) -> Step:
    return Step(Rows.CHUNK, rows, seconds, 0, shared)


def feed(tempo: HopTempo, steps: Sequence[Step], common: float = 1.0) -> list[int]:
    """After which of the steps the hop should be left."""
    return [number for number, step in enumerate(steps, 1) if tempo.add(step, common, 1.0) is not None]


def test_three_slow_steps_are_enough_and_two_are_not() -> None:
    tempo = HopTempo(None)
    assert feed(tempo, [decode(0.02)] * 10) == []
    assert feed(tempo, [decode(0.2)] * 4) == [3, 4]


def test_one_quick_step_does_not_hide_a_slow_worker() -> None:
    tempo = HopTempo(0.02)
    assert feed(tempo, [decode(0.02)] * 10 + [decode(0.2), decode(0.2), decode(0.02), decode(0.2)]) == [14]


def test_hiccups_with_calm_between_them_are_none_of_its_business() -> None:
    calm, hiccup = [decode(0.02)] * 7, [decode(5.0)] * 2
    assert feed(HopTempo(0.02), (calm + hiccup) * 50) == []
    calm, hiccup = [decode(0.02)] * 2, [decode(0.11)]
    assert feed(HopTempo(0.02), (calm + hiccup) * 50) == []


def test_who_works_by_fits_and_starts_is_slow() -> None:
    """Every other step stands still; what three of them cost together is what counts."""
    assert feed(HopTempo(0.02), [decode(0.02)] * 10 + [decode(0.4), decode(0.02)] * 3) == [15]
    assert feed(HopTempo(0.02), [decode(0.02)] * 10 + [decode(0.15), decode(0.02)] * 30) == []


def test_what_was_slow_does_not_become_usual() -> None:
    tempo = HopTempo(None)
    feed(tempo, [decode(0.02)] * 10 + [decode(1.0)] * 500)
    assert tempo.usual(Rows.DECODE) == 0.02
    slowness = tempo.add(decode(1.0), 1.0, 1.0)
    assert slowness is not None
    assert str(slowness) == "slow: its steps take 1 s instead of 0.02 s"


def test_without_a_past_what_the_worker_announces_counts() -> None:
    assert feed(HopTempo(0.02), [decode(0.2)] * 3) == [3]
    assert feed(HopTempo(0.1), [decode(0.2)] * 100) == []


def test_without_anything_to_compare_with_nothing_is_slow() -> None:
    tempo = HopTempo(None)
    assert feed(tempo, [decode(9.0)] * 3) == []
    assert tempo.usual(Rows.DECODE) is None
    assert tempo.bias is None


def test_steps_that_are_many_times_longer_and_still_short_do_not_matter() -> None:
    assert feed(HopTempo(0.001), [decode(0.001)] * 10 + [decode(EXCESS_SECONDS[Rows.DECODE])] * 100) == []


def test_a_queue_explains_as_many_times_as_there_are_tiles_in_it() -> None:
    usual = [decode(0.02)] * 10
    assert feed(HopTempo(None), usual + [decode(0.2, queue_rows=17)] * 50) == []
    assert feed(HopTempo(None), usual + [decode(0.22, queue_rows=16)] * 3) == [13]


def test_a_prompt_of_another_session_explains_one_chunk() -> None:
    """Where others are: their chunks slip between our rows, two decode steps for each tile."""
    usual = [decode(0.02)] * 10
    assert feed(HopTempo(None), usual + [decode(0.02 * 17, shared=True)] * 50) == []
    assert feed(HopTempo(None), usual + [decode(0.02 * 22, shared=True)] * 3) == [13]
    on_a_gpu = [chunk(0.03), chunk(0.03), *usual]  # a chunk costs little more than a step
    assert feed(HopTempo(None), [*on_a_gpu, *[decode(0.2, shared=True)] * 3]) == [15]


def test_what_others_made_long_does_not_become_usual() -> None:
    tempo = HopTempo(0.02)
    held_up = [decode(0.34, queue_rows=80, shared=True)] * 20
    assert feed(tempo, [*held_up, *[decode(0.03)] * 4, *held_up]) == []
    assert tempo.usual(Rows.DECODE) == 0.03
    assert feed(tempo, [decode(0.3)] * 3) == [3]


def test_a_network_or_a_machine_of_ours_on_which_everything_takes_longer_blames_nobody() -> None:
    tempos = [HopTempo(0.02), HopTempo(0.05), HopTempo(0.01)]
    for factor in [1.0] * 6 + [30.0] * 20:
        verdicts = judge([(t, decode(factor * s)) for t, s in zip(tempos, (0.02, 0.05, 0.01), strict=True)])
        assert verdicts == [None] * 3
    verdicts = [judge([(t, decode(s)) for t, s in zip(tempos, (0.02, 5.0, 0.01), strict=True)]) for _ in range(3)]
    assert [[v is not None for v in each] for each in verdicts] == [[False] * 3, [False] * 3, [False, True, False]]


def test_announcements_that_promise_too_much_everywhere_blame_nobody() -> None:
    """Every worker was measured idle, and every one needs ten times as long: none is slower than it can be."""
    tempos = [HopTempo(0.02), HopTempo(0.05)]
    tempos[0].add(decode(0.08), 1.0, 1.0)  # four times: ordinary still
    for _ in range(20):
        assert judge([(tempos[0], decode(0.08)), (tempos[1], decode(0.5))]) == [None, None]


def test_chunks_are_compared_with_chunks_of_as_many_rows() -> None:
    tempo = HopTempo(0.02)
    assert feed(tempo, [chunk(0.1, 22), chunk(0.4), chunk(0.4)]) == []
    assert feed(tempo, [chunk(9.0, 22)] * 9) == []  # the last ones of other prompts
    assert feed(tempo, [chunk(4.0)] * 3) == [3]
    assert tempo.usual(Rows.CHUNK) == 0.4


def test_a_first_prompt_without_a_past_is_not_judged() -> None:
    tempo = HopTempo(0.001)
    assert tempo.usual(Rows.CHUNK) is None
    assert feed(tempo, [chunk(60.0)] * 2) == []


def test_a_context_that_grows_is_followed() -> None:
    tempo = HopTempo(0.02)
    assert feed(tempo, [decode(0.02 * 1.05**number) for number in range(200)]) == []
    assert feed(tempo, [decode(tempo.usual(Rows.DECODE) * 10)] * 3) == [3]  # type: ignore[operator]


@given(bases, noise, st.booleans())
def test_noise_of_two_or_three_times_never_makes_a_hop_slow(base: float, factors: list[float], known: bool) -> None:
    tempo = HopTempo(base if known else None)
    steps = [decode(base)] * 4 + [decode(base * factor) for factor in factors]
    assert feed(tempo, steps) == []


@given(st.floats(0.2, 0.4), st.lists(st.floats(-0.1, 0.1), max_size=100))
def test_two_hundred_milliseconds_give_or_take_a_hundred_never_do(base: float, jitter: list[float]) -> None:
    assert feed(HopTempo(0.1), [decode(base + each) for each in jitter]) == []


@given(bases, noise, st.floats(20.0, 1000.0))
def test_ten_times_slower_is_noticed_at_the_third_step(base: float, factors: list[float], times: float) -> None:
    tempo = HopTempo(base)
    feed(tempo, [decode(base * factor) for factor in factors])
    usual = tempo.usual(Rows.DECODE)
    assert usual is not None
    seconds = max(times / 2 * usual, usual + 2 * EXCESS_SECONDS[Rows.DECODE])
    assert feed(tempo, [decode(seconds)] * SLOW_STEPS) == [SLOW_STEPS]


@given(st.lists(st.tuples(st.sampled_from(Rows), st.floats(0.0, 100.0)), max_size=200), st.floats(0.0, 1.0))
def test_a_hop_that_is_said_to_be_slow_was_so_in_three_steps_of_late(
    steps: list[tuple[Rows, float]], predicted: float
) -> None:
    """Whatever happens: against what was usual then, and by enough to matter."""
    tempo = HopTempo(predicted)
    seen: dict[Rows, list[bool]] = {Rows.DECODE: [], Rows.CHUNK: []}
    for kind, seconds in steps:
        usual = tempo.usual(kind)
        beyond = usual is not None and seconds > SLOWER * usual and seconds > usual + EXCESS_SECONDS[kind]
        seen[kind].append(beyond)
        found = tempo.add(Step(kind, 128 if kind is Rows.CHUNK else 1, seconds), 1.0, 1.0)
        assert found is None or (beyond and sum(seen[kind][-8:]) >= 3)
        assert found is not None or not beyond or sum(seen[kind][-4:]) < 3
        assert len(tempo._series[kind].past) <= PAST_STEPS


def slowness(seconds: float, usual: float = 0.02, kind: Rows = Rows.DECODE) -> Slowness:
    return Slowness(kind, seconds, usual, chunk=16 * usual if kind is Rows.DECODE else usual)


def test_a_move_pays_when_there_is_enough_left_to_save() -> None:
    assert pays(slowness(0.2), 0.0, position=150, rows_left=50)
    assert not pays(slowness(0.2), 0.0, position=150, rows_left=3)
    assert not pays(slowness(0.2), 0.0, position=100_000, rows_left=4096)  # 250 s for what saves 46 s
    assert pays(slowness(20.0), 0.0, position=100_000, rows_left=4096)


def test_a_move_to_somebody_not_much_quicker_never_pays() -> None:
    assert not pays(slowness(0.2), 0.05, position=10, rows_left=4096)
    assert pays(slowness(0.2), 0.04, position=10, rows_left=4096)
    assert pays(slowness(0.2), -5.0, position=10, rows_left=4096) == pays(
        slowness(0.2), 0.0, position=10, rows_left=4096
    )


def test_in_a_prompt_as_much_again_is_expected() -> None:
    slow = slowness(4.0, 0.4, Rows.CHUNK)
    assert pays(slow, 0.0, position=512, rows_left=4096)
    assert not pays(slow, 0.0, position=512, rows_left=10)
    assert not pays(slow, 0.1, position=512, rows_left=4096)


@given(st.floats(0.01, 10.0), bases, st.floats(0.0, 10.0), st.integers(0, 100_000), st.integers(0, 100_000))
def test_what_is_paid_is_never_more_than_half_of_what_is_saved(
    seconds: float, usual: float, extra: float, position: int, rows_left: int
) -> None:
    if pays(slowness(seconds, usual), extra, position, rows_left):
        saved = (seconds - usual - extra) * min(rows_left, HORIZON_STEPS)
        assert saved >= 2 * (position // 128) * 16 * (usual + extra) * 0.999
        assert seconds >= 2.999 * (usual + extra)


@given(st.lists(st.floats(0.0, 400.0), max_size=300))
def test_tries_become_rare_whatever_happens(pauses: list[float]) -> None:
    tries, now, made = Tries(), 0.0, []
    for pause in pauses:
        now += pause
        if tries.take(now):
            made.append(now)
    least = FIRST_PAUSE_SECONDS
    for before, after in pairwise(made):
        assert after - before >= least * 0.999
        least = min(MOST_PAUSE_SECONDS, 2 * least)


@pytest.mark.parametrize(("seconds", "most"), [(14, 1), (60, 3), (3600, 10)])
def test_how_many_tries_there_are_in_a_minute_and_in_an_hour(seconds: int, most: int) -> None:
    tries = Tries()
    assert sum(tries.take(float(second)) for second in range(seconds)) <= most
