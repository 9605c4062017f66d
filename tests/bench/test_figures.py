"""What lines are made of a run's numbers."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from swarm.bench.figures import Figures, Other, Ratio, Recovery, Resident, Round, Speed, Spread, Start, lines
from swarm.bench.show import as_object, show_lines

GB = 10**9


def figures() -> Figures:
    """Two rounds, the second on a machine that is half as fast."""
    found = Figures("llama-1b", "int4", 2, "portable", "a processor", "avx2")
    found.weight_bytes = GB
    for slowness in (1, 2):
        chains = {1: Speed(400 / slowness, 18 / slowness), 2: Speed(380 / slowness, 17.1 / slowness)}
        others = {
            "llama.cpp's Q4_0": Speed(100 / slowness, 10 / slowness),
            "native bf16": Speed(200 / slowness, 6 / slowness),
        }
        found.rounds.append(Round(20 * GB / slowness, chains, 20 / slowness, others))
    found.others = [
        Other("llama.cpp's Q4_0", "build 1 (abc)", 2 * GB, fresh=True),
        Other("native bf16", "torch 2", 2 * GB, fresh=False),
    ]
    found.together = [{1: 10.0, 16: 60.0}, {1: 20.0, 16: 140.0}]
    found.hop_seconds = 0.0005
    found.recovery = {1024: [Recovery(2.2, 2.0)]}
    found.resident = Resident(1_250_000_000, 900_000_000, 100_000_000)
    found.start = Start(2.0, 9.0, 28 * GB, Resident(1_100_000_000, 900_000_000, 0))
    return found


def test_ratios_are_taken_round_by_round() -> None:
    """So that a machine that was slow for a while does not look like a slow program."""
    found = {line.what: line for line in lines(figures(), 512)}

    one = found["decode, one worker"]
    assert one.value == Spread(13.5, 9, 18)
    assert one.ratios == (
        Ratio("memory's bound", Spread(0.9, 0.9, 0.9), percent=True),
        Ratio("native bf16", Spread(3, 3, 3)),  # both decode after a prompt
    )
    assert [ratio.of for ratio in found["decode, chain of 2"].ratios] == ["one worker", "memory's bound"]
    assert found["decode, chain of 2"].ratios[0].spread.median == pytest.approx(0.95)
    assert found["decode from an empty cache, one worker"].ratios == (Ratio("llama.cpp's Q4_0", Spread(2, 2, 2)),)
    assert found["decode, llama.cpp's Q4_0"].ratios[0].spread.median == 1  # of what its own bytes allow
    assert found["prompt of 512, one worker"].ratios == (
        Ratio("llama.cpp's Q4_0", Spread(4, 4, 4)),
        Ratio("native bf16", Spread(2, 2, 2)),
    )
    assert found["16 sessions on one worker, summed"].ratios == (Ratio("one session", Spread(6.5, 6, 7)),)


def test_what_a_process_takes_is_set_against_what_it_may() -> None:
    found = {line.what: line for line in lines(figures(), 512)}

    assert found["recovery of 1024 rows"].ratios[0].spread.median == pytest.approx(1.1)
    at_work = found["memory of a worker at work"]
    assert at_work.ratios[0].spread.median == pytest.approx(1250 / 1300)
    assert "all else 250 MB" in at_work.note
    assert found["start of a worker"].ratios[0].spread.median == pytest.approx(0.5)  # 2 s + 28 GB at 14 GB/s


def test_what_was_not_measured_is_not_there() -> None:
    bare = Figures("hop", "bf16", 1)
    bare.weight_bytes, bare.rounds = GB, [Round(GB, {1: Speed(1, 1)})]

    assert [line.what for line in lines(bare, 512)] == [
        "memory, read",
        "decode, memory's bound",
        "decode, one worker",
        "prompt of 512, one worker",
    ]


def test_every_ratio_says_of_what() -> None:
    found = as_object(lines(figures(), 512))

    assert all(ratio["of"] for line in found for ratio in line["ratios"])
    assert found[2] == {
        "what": "decode, one worker",
        "unit": "tokens/s",
        "median": 13.5,
        "low": 9.0,
        "high": 18.0,
        "ratios": [
            {"of": "memory's bound", "median": 0.9, "low": 0.9, "high": 0.9},
            {"of": "native bf16", "median": 3.0, "low": 3.0, "high": 3.0},
        ],
    }


def test_a_table_for_people() -> None:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as shown:
        show_lines(figures().title, lines(figures(), 512), console)
    text = shown.get()

    assert "llama-1b, int4, portable (avx2), 2 threads, a processor" in text
    assert "13.5 (9.00–18.0) tokens/s" in text
    assert "90% of memory's bound" in text
    assert "4.00 x llama.cpp's Q4_0" in text
