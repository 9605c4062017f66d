import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.simulation.run import replay, simulate

ROOT = Path(__file__).parents[2]
SEEDS = range(100)
SOAK_SEEDS = range(10_000, 12_000)


@pytest.fixture(scope="module")
def outcomes():
    return [simulate(seed) for seed in SEEDS]


def test_whatever_a_seed_does_the_promises_hold(outcomes):
    broken = [str(outcome) for outcome in outcomes if not outcome.ok]
    assert not broken, "\n\n".join(broken)


def test_the_seeds_reach_what_they_are_for(outcomes):
    """Simulations in which nothing happens hold every promise."""
    faults = " ".join(line for outcome in outcomes for line in outcome.faults)
    kinds = ("BadDatagrams", "Crash", "Cut", "Damage", "Delay", "FullCache", "Pause", "Skew", "Slow")
    assert [kind for kind in kinds if kind not in faults] == []
    assert sum(outcome.recoveries for outcome in outcomes) > 20
    assert sum(outcome.tokens for outcome in outcomes) > 1500
    events = " ".join(event for outcome in outcomes for event in outcome.events)
    assert "session.wait failed" in events
    assert "bad record MAC" in events


def test_a_seed_replays_identically(outcomes, capsys):
    again = replay(SEEDS[7], verbose=False)
    assert again == outcomes[7]
    assert again.digest == outcomes[7].digest
    assert capsys.readouterr().out == f"{again}\n"
    assert len({outcome.digest for outcome in outcomes}) == len(outcomes)


def test_a_seed_does_the_same_in_another_process_whatever_hashes_are(outcomes):
    program = "from chaos.simulation.run import simulate; print([simulate(seed).digest for seed in range(12)])"
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout.strip() == str([outcome.digest for outcome in outcomes[:12]])


@pytest.mark.soak
@pytest.mark.parametrize("first", range(SOAK_SEEDS.start, SOAK_SEEDS.stop, 100))
def test_two_thousand_more_seeds(first):
    broken = [str(outcome) for seed in range(first, first + 100) if not (outcome := simulate(seed)).ok]
    assert not broken, "\n\n".join(broken)
