"""The guide's first part, run as it stands there, on one machine."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from support.processes import SwarmProcess, close_all

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "GUIDE.md"
FIRST = "## From nothing to a chat on three machines"


def shown() -> list[list[str]]:
    """The commands of the first part, without `swarm`."""
    part = GUIDE.read_text(encoding="utf-8").partition(FIRST)[2].partition("\n## ")[0]
    return [shlex.split(line) for line in re.findall(r"^    swarm (.*)$", part, re.MULTILINE)]


def test_from_nothing_to_a_chat(tmp_path: Path) -> None:
    bootstrap, whole, half, status, chat, ask = shown()
    assert [words[0] for words in (bootstrap, whole, half, status, chat, ask)] == [
        *("bootstrap", "worker", "worker", "status", "client", "client")
    ]
    env = dict(os.environ, XDG_DATA_HOME=str(tmp_path), HOME=str(tmp_path))

    def here(words: list[str], place: str) -> list[str]:
        """The same with the address that is true here, and any free port."""
        words = [place if word == "192.0.2.1:7700" else word for word in words]
        words = [word for at, word in enumerate(words) if word != "--port" and words[at - 1] != "--port"]
        serves = words[0] in ("bootstrap", "worker")
        key = ("--host", "127.0.0.1", "--port", "0", "--key", str(tmp_path / f"{len(processes)}.key")) if serves else ()
        return [*words, *key]

    processes: list[SwarmProcess] = []
    try:
        processes.append(SwarmProcess(*here(bootstrap, ""), env=env))
        place = processes[0].ready().address
        for words in (whole, half):
            processes.append(SwarmProcess(*here(words, place), env=env))
            processes[-1].ready()
        told = []
        for words in (status, chat, ask):
            processes.append(SwarmProcess(*here(words, place), watched=False, env=env))
            process = processes[-1]
            if words is chat:  # stdin is no terminal here: it is the prompt
                assert process.process.stdin is not None
                process.process.stdin.write(b"hello")
                process.process.stdin.close()
                process.process.stdin = None
            told.append(process.rest().decode())
            assert process.process.returncode == 0, process.errors()
        assert "demo" in told[0]
        assert all(told)
    finally:
        close_all(processes)
