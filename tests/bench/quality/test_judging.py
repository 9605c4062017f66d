"""How well precisions predict a text, and what is said of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional

from swarm.bench.against.llama_perplexity import Perplexity, arguments, parse
from swarm.bench.against.program import Program
from swarm.bench.quality.run import Plan
from swarm.bench.quality.tally import Tally
from swarm.bench.subject import Subject
from swarm.cli import main
from swarm.cli.models import demo_directory
from swarm.errors import LocalFault, UsageFault

SAID = "calculating perplexity over 8 chunks, n_ctx=512\n[1]61.2,[2]70.1,\nFinal estimate: PPL = 69.6400 +/- 4.95012\n"


def test_a_tally_is_cross_entropy_and_divergence() -> None:
    torch.manual_seed(0)
    reference, logits, targets = torch.randn(6, 11), torch.randn(6, 11), torch.randint(0, 11, (6,))
    tally = Tally()
    for part in (slice(0, 2), slice(2, 6)):  # in pieces
        tally.add(logits[part], reference[part], targets[part], 4)

    nats = functional.cross_entropy(logits, targets).item()
    assert tally.perplexity == pytest.approx(math.exp(nats), rel=1e-6)
    assert tally.bits_per_byte == pytest.approx(nats * 6 / math.log(2) / 8, rel=1e-6)
    assert tally.agreement == (logits.argmax(1) == reference.argmax(1)).double().mean().item()
    divergence = functional.kl_div(
        logits.log_softmax(1), reference.log_softmax(1), log_target=True, reduction="batchmean"
    )
    assert tally.mean_divergence == pytest.approx(divergence.item(), rel=1e-5)


def test_the_demo_model_in_two_precisions(tmp_path: Path) -> None:
    (text := tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog, and then it sleeps. " * 8)
    options = ("--quality", "demo", str(text), "--window", "32", "--windows", "2", "--precision", "int8")
    said = CliRunner().invoke(main, ["bench", *options, "--json"])
    assert said.exit_code == 0, said.stderr
    found = json.loads(said.stdout)

    assert (found["windows"], found["tokens"]) == (2, 30)
    assert found["bytes"] > 30
    assert list(found["precisions"]) == ["fp32", "int8"]
    fp32, int8 = found["precisions"].values()
    assert fp32["agreement_with_reference"] == fp32["perplexity_to_reference"] == 1
    assert fp32["divergence_from_reference"] == pytest.approx(0, abs=1e-9)
    assert fp32["bits_per_byte"] == pytest.approx(math.log2(fp32["perplexity"]) * found["tokens"] / found["bytes"])
    assert 0.9 < int8["bits_per_byte_to_reference"] < 1.1
    assert 0 < int8["divergence_from_reference"] < 0.1

    shown = CliRunner().invoke(main, ["bench", *options])
    assert "30 tokens, the second halves of 2 windows of 32" in " ".join(shown.stdout.split())
    assert "+0.00%" in shown.stdout


def test_what_llama_perplexity_said() -> None:
    assert parse(SAID) == Perplexity(69.64, 4.95012)
    with pytest.raises(LocalFault, match="you need at least 1024 tokens"):
        parse("perplexity: you need at least 1024 tokens to evaluate perplexity")


def test_llama_perplexity_gets_the_same_windows() -> None:
    told = arguments(Path("model.gguf"), Path("text.txt"), 2, 256, 7)
    assert {"-c": "256", "-b": "256", "--chunks": "7"}.items() <= dict(zip(told[::2], told[1::2], strict=True)).items()


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    subject, text = Subject.of_model(demo_directory()), tmp_path / "text.txt"
    for plan, complaint in (
        (Plan(subject, text, (), window=1 << 20), "--window 1048576"),
        (Plan(subject, text, (), against=Program("llama-bench", Path("/bin/sh"))), "llama-perplexity:PATH"),
        (Plan(subject, text, (), against=Program("llama-perplexity", Path("/bin/sh"))), "GGUF"),
    ):
        with pytest.raises(UsageFault, match=complaint):
            plan.check()


def test_a_text_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = CliRunner().invoke(main, ["bench", "--quality", "demo", str(tmp_path / "none.txt")])
    assert said.exit_code == 2
    assert "none.txt" in said.stderr
