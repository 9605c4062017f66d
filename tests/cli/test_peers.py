"""`swarm peers`: who is banned, until when and why; clearing; checking a proof."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.audits import CONFIG, audited, by_id, play, turn
from support.models import make_model
from support.records import peer
from support.swarm import LocalSwarm

from chaos.liars import Lie
from swarm.cli import main
from swarm.client.audits.bans import Bans
from swarm.identity import PeerId

A, B = peer(0x3F9A), peer(0x3F9B)
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(main, ["peers", *arguments])


@pytest.fixture
def bans(tmp_path: Path) -> Bans:
    return Bans(tmp_path / "swarm" / "bans.json", time.time)


def test_nobody_is_banned_at_first(run: Run, tmp_path: Path) -> None:
    result = run("bans")
    assert (result.exit_code, result.stdout) == (0, "no peer is banned\n")
    assert json.loads(run("bans", "--json").stdout) == {"bans": []}
    assert not list(tmp_path.iterdir())


def test_bans_are_listed_with_reason_and_proof(run: Run, bans: Bans) -> None:
    bans.ban(A, "layers 0-3: other bits", {"form": "none"})
    bans.ban(B, "layers 4-7: other bits")
    bans.ban(B, "layers 4-7: other bits again")
    first, why, second, reason, proof = run("bans").stdout.splitlines()
    assert first.startswith(f"{B}  until ")
    assert "(48 h, banned 2 times so far)" in first
    assert why == "  layers 4-7: other bits again"
    assert second.startswith(f"{A}  until ")
    assert second.endswith("(24 h)")
    assert (reason, proof) == ("  layers 0-3: other bits", f"  proof: {bans.proof_of(A)}")
    data = json.loads(run("bans", "--json").stdout)["bans"]
    assert [(ban["peer"], ban["count"], ban["proof"]) for ban in data] == [
        (str(B), 2, None),
        (str(A), 1, str(bans.proof_of(A))),
    ]


def test_a_peer_is_cleared_by_its_first_digits(run: Run, bans: Bans) -> None:
    bans.ban(A, "it lied")
    bans.ban(B, "it lied")
    for text in ("3f9a", "3f9a0001", "", "zz" * 32):
        result = run("bans", "--clear", text)
        assert result.exit_code == 2
        assert "3f9a0000, 3f9b0000" in result.stderr or "3f9b0000, 3f9a0000" in result.stderr
    assert run("bans", "--clear", A.short).exit_code == 0
    assert str(A) not in run("bans").stdout
    assert run("bans", "--clear", str(B)).exit_code == 0
    assert run("bans").stdout == "no peer is banned\n"


def test_a_damaged_file_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "swarm" / "bans.json"
    path.parent.mkdir()
    path.write_text("{")
    for arguments in (["bans"], ["bans", "--clear", str(A)]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert f"the bans in {path} are damaged" in result.stderr
        assert path.read_text() == "{"


def test_a_proof_is_checked_by_whoever_has_the_file(run: Run, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", tokenizer=True, tie_word_embeddings=False)
    path = tmp_path / "swarm" / "bans.json"
    convicted: list[PeerId] = []

    async def act(swarm: LocalSwarm) -> None:
        liar, *others = by_id(swarm)
        turn(liar, Lie.LAST_BIT)
        await audited(swarm, path)
        convicted.extend([liar.peer_id, *(other.peer_id for other in others)])

    play(model, [(0, 4)] * 3, act, CONFIG)
    (proof,) = (path.parent / "proofs").iterdir()
    result = run("check", str(proof))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"peer {convicted[0]} lied about layers 0-3:\nit signed rows 0 to 127, ")
    assert all(str(peer_id) in result.stdout for peer_id in convicted)

    data = json.loads(proof.read_text())
    data["liar"], data["witnesses"][0]["hops"][0] = data["witnesses"][0]["hops"][0], data["liar"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(data))
    for file, words in ((other, "convicts nobody: "), (tmp_path / "none.json", "cannot be read")):
        result = run("check", str(file))
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr
    other.write_text("[" * 100_000)
    assert "convicts nobody" in run("check", str(other)).stderr
