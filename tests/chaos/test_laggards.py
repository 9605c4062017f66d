"""Slow steps until a slowed worker is left."""

from chaos.runner.laggards import Laggards
from swarm.trace import Event


def step(laggards: Laggards, peer: str, began: float, seconds: float) -> None:
    laggards(Event("hop.forward", "started", {"peer": peer}), began)
    laggards(Event("hop.forward", "complete", {"peer": peer}), began + seconds)


def test_only_slow_steps_of_a_slowed_worker_count_until_a_move_begins() -> None:
    laggards = Laggards()
    step(laggards, "a", 0.0, 1.0)  # not slowed yet
    laggards.struck("a")
    step(laggards, "a", 2.0, 0.5)
    step(laggards, "a", 3.0, 0.01)
    step(laggards, "b", 4.0, 0.5)
    step(laggards, "a", 5.0, 0.5)
    assert laggards.left == set()
    laggards(Event("session.move", "started", {"peer": "a"}), 6.0)
    step(laggards, "a", 7.0, 0.5)
    laggards(Event("session.move", "complete", {"peer": "a"}), 8.0)
    laggards(Event("session.move", "complete", {"peer": "b"}), 8.0)
    assert laggards.steps == {"a": 2}
    assert laggards.left == {"a"}


def test_the_step_under_way_when_a_worker_is_slowed_counts() -> None:
    laggards = Laggards()
    laggards(Event("hop.forward", "started", {"peer": "a"}), 0.0)
    laggards.struck("a")
    laggards(Event("hop.forward", "complete", {"peer": "a"}), 0.2)
    assert laggards.steps == {"a": 1}
