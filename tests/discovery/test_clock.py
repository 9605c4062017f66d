import pytest

from swarm.discovery.clock import (
    ENOUGH,
    MAX_OFFSET,
    MAX_VOICES,
    SLACK_SECONDS,
    VOICE_SECONDS,
    SwarmClock,
    nearest_median,
)

HOUR = 3600.0


class Machine:
    """A machine whose clocks are told what to show. It hears others whose time is the true one, unless `ahead`."""

    def __init__(self, off: float = 0.0) -> None:
        self.true, self.off, self.slept = 1e9, off, 0.0
        self.clock = SwarmClock(lambda: self.true + self.off, lambda: self.true - 1e9 + 50.0 - self.slept)

    def hear(self, number: int, ahead: float = 0.0, trip: float = 0.1, host: str = "8.8.{}.1") -> bool:
        asked = self.true - 1e9 + 50.0 - self.slept
        self.true += trip
        return self.clock.hear((host.format(number), 7700), self.true - trip / 2 + ahead, asked)

    @property
    def error(self) -> float:
        return self.clock.time() - self.true


def test_alone_ones_own_clock_is_right():
    assert abs(Machine(HOUR).error) == HOUR


def test_who_joins_takes_the_time_of_those_who_are_there():
    machine = Machine(HOUR)
    assert machine.hear(1)
    assert abs(machine.error) < 0.01
    assert not machine.hear(2)


def test_clocks_that_nearly_agree_are_left_alone():
    machine = Machine(SLACK_SECONDS * 0.9)
    for number in range(20):
        assert not machine.hear(number)
    assert machine.clock.offset == 0.0


@pytest.mark.parametrize("lie", [-HOUR, HOUR, 2.5])
def test_a_minority_moves_nothing(lie):
    machine = Machine()
    for number in range(30):
        machine.hear(number, lie if number % 3 == 2 else 0.0)
        assert abs(machine.error) < 0.01


def test_between_two_halves_the_present_time_stays():
    machine = Machine()
    for number in range(20):
        machine.hear(number, HOUR if number % 2 else 0.0)
    assert abs(machine.error) < 0.01
    assert nearest_median([1.0, 2.0, 8.0, 9.0], 0.0) == 2.0
    assert nearest_median([1.0, 2.0, 8.0, 9.0], 7.0) == 8.0


def test_one_network_has_one_voice_and_every_local_address_one():
    machine = Machine()
    machine.hear(1)
    machine.hear(2)
    for number in range(20):
        machine.hear(number, HOUR, host="9.9.9.{}")
    assert abs(machine.error) < 0.01
    for number in range(20):
        machine.hear(number, HOUR, host="10.0.0.{}")
    assert abs(machine.error - HOUR) < 0.01


def test_a_jump_of_the_wall_clock_is_not_believed():
    machine = Machine()
    machine.hear(1)
    for jump in (HOUR, -HOUR, 86400.0, 0.0):
        machine.off = jump
        assert abs(machine.error) < 0.01
        machine.hear(2)
        machine.true += 30.0
        assert abs(machine.error) < 0.01


def test_after_a_sleep_a_few_voices_tell_the_time():
    machine = Machine()
    for number in range(40):
        machine.hear(number)
    machine.slept = 2 * HOUR
    machine.true += 2 * HOUR
    assert machine.error == pytest.approx(-2 * HOUR)
    heard = [machine.hear(number) for number in range(50, 50 + ENOUGH)]
    assert heard == [False] * (ENOUGH - 1) + [True]
    assert abs(machine.error) < 0.01


def test_in_a_small_swarm_one_voice_is_enough_after_a_sleep():
    machine = Machine()
    machine.hear(1)
    machine.slept = HOUR
    machine.true += HOUR
    machine.hear(1)
    assert abs(machine.error) < 0.01


def test_old_voices_are_forgotten_and_so_are_all_but_so_many():
    machine = Machine()
    for number in range(20):
        machine.hear(number)
    machine.true += VOICE_SECONDS
    machine.hear(30, HOUR)
    assert abs(machine.error - HOUR) < 0.01
    for number in range(200):
        machine.hear(number)
    assert len(machine.clock._voices) == MAX_VOICES


def test_absurd_and_late_voices_are_not_listened_to():
    machine = Machine()
    for number in range(5):
        machine.hear(number, MAX_OFFSET + 60.0)
        machine.hear(number, -MAX_OFFSET - 60.0)
        machine.hear(number, HOUR, trip=5.0)
    assert abs(machine.error) < 0.01


def test_a_bias_that_all_have_does_not_add_up():
    machines = [Machine(HOUR if number == 0 else 0.0) for number in range(4)]
    for machine in machines[1:]:
        machine.hear(0, HOUR)
    for _ in range(200):
        for machine in machines:
            for number, other in enumerate(machines):
                if other is not machine:
                    machine.hear(number, other.error - 0.3)
    assert all(abs(machine.error - HOUR) < SLACK_SECONDS for machine in machines)
