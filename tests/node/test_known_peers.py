"""Real processes whose only bootstrap was killed: what runs goes on, and what is started joins by peers kept on disk."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from support.processes import SwarmProcess, close_all

SPANS = ("0-11", "12-23")


def worker(folder: Path, span: str, bootstrap: str) -> SwarmProcess:
    return SwarmProcess.server(
        "worker", folder, "--model", "demo", "--layers", span, "--threads", "1", "--bootstrap", bootstrap
    )


def answer(bootstrap: str) -> dict[str, object]:
    asked = SwarmProcess(
        "client",
        "--model",
        "demo",
        "--raw",
        "--json",
        "--max-tokens",
        "3",
        "--bootstrap",
        bootstrap,
        "Hello",
        watched=False,
        forked=True,
    )
    try:
        found = json.loads(asked.read_until(b"\n"))
        asked.process.wait(60)  # whom it met it writes down as it leaves
        return found  # type: ignore[no-any-return]
    finally:
        close_all([asked])


def test_a_cold_start_by_known_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    bootstrap = SwarmProcess.server("bootstrap", tmp_path)
    running = [bootstrap]
    try:
        address = bootstrap.ready().address
        running += [worker(tmp_path, span, address) for span in SPANS]
        for one in running:
            one.ready()
        before = answer(address)
        (kept,) = (tmp_path / "data" / "swarm" / "swarms").iterdir()
        assert kept.suffix == ".peers"
        bootstrap.process.send_signal(signal.SIGKILL)
        bootstrap.process.wait()
        assert answer(address)["token_ids"] == before["token_ids"]
        late = worker(tmp_path, SPANS[0], address)
        running.append(late)
        late.ready()
        status = SwarmProcess("status", "--json", "--bootstrap", address, watched=False, forked=True)
        running.append(status)
        found = json.loads(status.read_until(b"\n"))
        assert late.peer in {one["peer"] for one in found["models"][0]["workers"]}
    finally:
        close_all(running)
