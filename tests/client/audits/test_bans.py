"""Bans last, double, expire and survive; a damaged file is named and not lost."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from support.records import peer

from swarm.client.audits.bans import FIRST_SECONDS, MAX_BANS, MAX_PROOFS, MOST_SECONDS, Bans
from swarm.errors import UsageFault

A, B = peer(1), peer(2)


class Clock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.mark.parametrize("kept", [True, False])
def test_a_ban_ends_and_the_next_is_twice_as_long(tmp_path: Path, kept: bool) -> None:
    now = Clock()
    bans = Bans(tmp_path / "bans.json" if kept else None, now)
    bans.load()
    assert bans.banned() == frozenset()
    for seconds in (FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS):
        ban = bans.ban(A, "it lied")
        assert ban.until - now.time == seconds
        assert bans.banned() == {A}
        now.time += seconds - 1
        assert bans.banned() == {A}
        now.time += 1
        assert bans.banned() == frozenset()
    assert bans.ban(B, "it lied too").until - now.time == FIRST_SECONDS
    for _ in range(30):
        assert bans.ban(A, "again").until - now.time <= MOST_SECONDS


def test_bans_survive_the_process_that_made_them(tmp_path: Path) -> None:
    now, path = Clock(), tmp_path / "new" / "bans.json"
    Bans(path, now).ban(A, "it lied", {"signed": "here"})
    bans = Bans(path, now)
    bans.load()
    (ban,) = bans.entries()
    assert (ban.peer_id, ban.count, ban.reason) == (A, 1, "it lied")
    assert json.loads(bans.proof_of(A).read_text()) == {"signed": "here"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert bans.ban(A, "again").count == 2
    assert sorted(each.name for each in path.parent.iterdir()) == ["bans.json", "bans.json.lock", "proofs"]


def test_a_cleared_peer_begins_anew(tmp_path: Path) -> None:
    bans = Bans(tmp_path / "bans.json", Clock())
    bans.ban(A, "it lied", {})
    assert bans.clear(A)
    assert bans.banned() == frozenset()
    assert not bans.proof_of(A).exists()
    assert not bans.clear(A)
    assert bans.ban(A, "again").count == 1


def test_processes_that_share_a_file_see_what_the_others_do(tmp_path: Path) -> None:
    now, path = Clock(), tmp_path / "bans.json"
    one, other = Bans(path, now), Bans(path, now)
    one.load()
    other.load()
    one.ban(A, "it lied")
    assert other.banned() == {A}
    other.ban(B, "it lied")
    assert one.banned() == {A, B}
    one.clear(A)
    assert other.banned() == {B}


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", '{"bans": 3}', '{"bans": [{"peer_id": "ab"}]}', "{" * 100_000, "\xff"]
    + [
        json.dumps({"bans": [{"peer_id": str(A), "since": 1.0, "until": 2.0, "count": 1, "reason": ""} | wrong]})
        for wrong in ({"until": "soon"}, {"until": float("inf")}, {"count": 0}, {"count": True}, {"reason": 7})
    ],
)
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bans.json"
    path.write_bytes(text.encode("latin-1"))
    bans = Bans(path, Clock())
    with pytest.raises(UsageFault, match=r"bans\.json are damaged .*: correct it, or delete it"):
        bans.load()
    with pytest.raises(UsageFault, match=r"bans\.json are damaged"):
        bans.ban(A, "it lied")
    assert bans.banned() == {A}  # as long as this process lives
    assert path.read_bytes() == text.encode("latin-1")
    path.unlink()
    bans.ban(B, "it lied")
    assert bans.banned() == {A, B}
    again = Bans(path, Clock())
    again.load()
    assert again.banned() == {A, B}


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bans.json"
    path.write_bytes(b" " * (3 << 20))
    with pytest.raises(UsageFault, match=r"bans\.json exceed"):
        Bans(path, Clock()).load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    bans = Bans(tmp_path / "bans.json", Clock())
    with pytest.raises(UsageFault, match=r"bans\.json cannot be changed"):
        bans.ban(A, "it lied")
    assert bans.banned() == {A}


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.client.audits.bans.MAX_BANS", 4)
    monkeypatch.setattr("swarm.client.audits.bans.MAX_PROOFS", 2)
    now = Clock()
    bans = Bans(tmp_path / "bans.json", now)
    for number in range(1, 8):
        now.time += 1
        bans.ban(peer(number), "it lied", {"number": number})
        os.utime(bans.proof_of(peer(number)), (now.time, now.time))
    assert bans.banned() == {peer(number) for number in range(4, 8)}
    kept = {path.stem for path in (tmp_path / "proofs").iterdir()}
    assert kept == {str(peer(6)), str(peer(7))}
    assert MAX_BANS > 100 > MAX_PROOFS


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bans.json"
    bans = Bans(path, Clock())
    bans.ban(A, "it lied")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageFault, match=r"bans\.json cannot be changed: No space left"):
        bans.ban(B, "it lied")
    assert bans.banned() == {A, B}
    again = Bans(path, Clock())
    again.load()
    assert again.banned() == {A}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bans.json", "bans.json.lock"]
