"""How long a worker may say Working."""

from hypothesis import given
from hypothesis import strategies as st

from swarm.client.failover.busy_limit import LEAST_SECONDS, BusyLimit


def seconds_until_left(wait: BusyLimit, queue_rows: int = 1, now: float = 0.0) -> float:
    began = now
    while wait.working(now, queue_rows):
        now += 0.5
        assert now - began < 10_000
    return now - began


def test_a_quick_worker_that_does_not_get_on_is_left_after_a_quarter_of_a_minute() -> None:
    assert seconds_until_left(BusyLimit(0.003, 8)) == LEAST_SECONDS


def test_a_chunk_on_a_slow_machine_may_take_more_than_a_minute() -> None:
    """A decode step of half a second, and a chunk whose rows are computed one by one."""
    assert seconds_until_left(BusyLimit(0.5, 40)) > 128 * 0.5 + 60


def test_a_worker_that_has_decoded_nothing_yet_is_given_what_its_layers_may_need() -> None:
    assert seconds_until_left(BusyLimit(0.0, 40)) > 60
    assert seconds_until_left(BusyLimit(None, 40)) > 60


def test_a_long_queue_is_waited_for() -> None:
    assert seconds_until_left(BusyLimit(0.1, 8), queue_rows=4096) > 4096 * 0.1


def test_a_queue_that_moves_is_waited_for_as_long_as_it_moves() -> None:
    wait = BusyLimit(0.003, 8)
    now = 0.0
    for _ in range(100):  # a chunk of another session every ten seconds, and as many newcomers
        for _ in range(10):
            assert wait.working(now, 256)
            now += 1.0
        assert wait.working(now, 128)
    assert LEAST_SECONDS <= seconds_until_left(wait, 128, now) <= LEAST_SECONDS + 2


def test_a_queue_that_only_grows_does_not_move() -> None:
    wait = BusyLimit(0.003, 8)
    assert not all(wait.working(float(second), second) for second in range(100))


def test_who_answers_what_was_asked_before_moves() -> None:
    """Of chunks that are asked for one behind the other the last waits for all others."""
    wait = BusyLimit(0.003, 8)
    assert all(wait.working(float(second), 1, answered=second // 10) for second in range(100))


def test_time_in_which_we_did_not_run_counts_little() -> None:
    wait = BusyLimit(0.003, 8)
    assert wait.working(0.0, 1)
    assert wait.working(3600.0, 1)
    assert wait.seconds <= 2.0


@given(
    st.floats(0.0, 1.0), st.integers(1, 80), st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 8192)), max_size=60)
)
def test_nobody_is_left_before_the_least_time(step: float, layers: int, signs: list[tuple[float, int]]) -> None:
    wait = BusyLimit(step, layers)
    now = 0.0
    for pause, queue_rows in signs:
        now += pause
        if not wait.working(now, queue_rows):
            assert now >= LEAST_SECONDS
            return
