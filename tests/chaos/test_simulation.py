import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.simulation.faults import Lies
from chaos.simulation.peers import Compute
from chaos.simulation.run import replay, simulate
from swarm.client.generate import Answer
from swarm.worker.batcher import Batcher

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
    kinds = ("BadDatagrams", "Crash", "Cut", "Damage", "Delay", "Drain", "FullCache", "Lies", "Pause", "Skew", "Slow")
    assert [kind for kind in kinds if kind not in faults] == []
    assert sum(outcome.recoveries for outcome in outcomes) > 20
    assert sum(outcome.tokens for outcome in outcomes) > 1500
    assert sum(outcome.audits for outcome in outcomes) > 100
    assert sum(outcome.lied for outcome in outcomes) > 3
    assert sum(outcome.banned for outcome in outcomes) > 0
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


def violations(seeds=range(10)):
    return " ".join(text for seed in seeds for text in simulate(seed).violations)


class TestWhatIsBrokenIsSeen:
    """Simulations that see nothing hold every promise too."""

    def test_wrong_rows(self, monkeypatch):
        right = Batcher._decode_call
        monkeypatch.setattr(Batcher, "_decode_call", lambda *args: [rows + 0.5 for rows in right(*args)])
        assert "I1: " in violations()

    def test_a_ban_of_somebody_honest(self, monkeypatch, outcomes):
        banning = next(outcome for outcome in outcomes if outcome.banned)
        right = Lies.apply

        def apply_unseen(fault, world):
            right(fault, world)
            world.liars.clear()

        monkeypatch.setattr(Lies, "apply", apply_unseen)
        assert "I6: w" in violations([banning.seed])

    def test_a_session_that_is_never_closed(self, monkeypatch):
        async def forget(links):
            return None

        monkeypatch.setattr("swarm.client.session.close_hop_sessions", forget)
        assert "I4: left behind: w" in violations()

    def test_a_task_that_never_ends(self, monkeypatch):
        left = []

        def begin(self, token, stream, right=Answer._emit):
            if not left:
                left.append(asyncio.create_task(asyncio.sleep(1e6), name="left over"))
            return right(self, token, stream)

        monkeypatch.setattr(Answer, "_emit", begin)
        assert "I7: tasks left at the end" in violations(range(1))

    def test_an_error_that_nobody_takes(self, monkeypatch):
        def begin(self, token, stream, right=Answer._emit):
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            return right(self, token, stream)

        monkeypatch.setattr(Answer, "_emit", begin)
        assert "I7: " in violations(range(1))
        assert "ZeroDivisionError" in violations(range(1))

    def test_a_worker_that_never_answers(self, monkeypatch):
        async def wait(self, function):
            await asyncio.sleep(1e6)

        monkeypatch.setattr(Compute, "run", wait)
        assert "I2: failed though a chain was there" in violations(range(1))


@pytest.mark.soak
@pytest.mark.parametrize("first", range(SOAK_SEEDS.start, SOAK_SEEDS.stop, 100))
def test_two_thousand_more_seeds(first):
    broken = [str(outcome) for seed in range(first, first + 100) if not (outcome := simulate(seed)).ok]
    assert not broken, "\n\n".join(broken)
