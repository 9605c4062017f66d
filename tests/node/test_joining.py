"""A bootstrap that is not up yet, in virtual time."""

from __future__ import annotations

import pytest

from swarm.cli.bootstrap import started_by_manager, waiting_seconds
from swarm.errors import NoSwarm, OtherKey
from swarm.node.joining import join_within
from tests.support.clock import run_virtual


class Bootstrap:
    """Answers after so many attempts."""

    def __init__(self, silent: int, error: type[NoSwarm] = NoSwarm) -> None:
        self.silent, self.error, self.asked = silent, error, 0

    async def join(self) -> None:
        self.asked += 1
        if self.asked <= self.silent:
            raise self.error("no bootstrap answered: a.example port 7700")


def test_it_is_waited_for_and_that_is_told_once() -> None:
    bootstrap, told = Bootstrap(40), list[str]()
    run_virtual(join_within(bootstrap.join, float("inf"), told.append))
    assert bootstrap.asked == 41
    assert told == ["no bootstrap answered: a.example port 7700. Waiting for it"]


def test_only_so_long() -> None:
    bootstrap, told = Bootstrap(40), list[str]()
    with pytest.raises(NoSwarm):
        run_virtual(join_within(bootstrap.join, 5, told.append))
    assert bootstrap.asked == 6
    assert told == ["no bootstrap answered: a.example port 7700. Waiting for it for 5 s"]


@pytest.mark.parametrize(("seconds", "error"), [(0.0, NoSwarm), (float("inf"), OtherKey)])
def test_without_waiting_and_where_waiting_changes_nothing(seconds: float, error: type[NoSwarm]) -> None:
    bootstrap, told = Bootstrap(40, error), list[str]()
    with pytest.raises(error):
        run_virtual(join_within(bootstrap.join, seconds, told.append))
    assert (bootstrap.asked, told) == (1, [])


def test_who_starts_services_in_any_order() -> None:
    assert started_by_manager(50, 40, {"SYSTEMD_EXEC_PID": "50"})
    assert not started_by_manager(50, 40, {"SYSTEMD_EXEC_PID": "7"})  # inherited from a desktop's session
    assert started_by_manager(1, 0, {})
    assert started_by_manager(7, 1, {})
    assert not started_by_manager(50, 40, {})
    assert waiting_seconds(3.0, {}) == 3.0
