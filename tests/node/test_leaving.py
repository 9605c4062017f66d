"""Real processes: who stops cleanly is gone from what others are shown at once, and who comes back is there once."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from support.processes import SwarmProcess, close_all

from swarm.cli.status.status import as_data, look


def shown(place: tuple[str, int]) -> list[tuple[str, str, bool]]:
    """Peer, layers and whether it answers, of every worker that `swarm status` shows."""
    models, health, now = asyncio.run(look([place], None, False))
    return [
        (worker["peer"], worker["layers"], worker["error"] is None)
        for model in as_data(models, health, now)["models"]
        for worker in model["workers"]
    ]


def test_a_worker_that_stops_is_gone_and_one_that_comes_back_replaces_what_was_killed(tmp_path: Path) -> None:
    processes = [SwarmProcess.server("bootstrap", tmp_path)]
    try:
        address = processes[0].ready().address
        host, port = address.rsplit(":", 1)
        place = host, int(port)

        def worker(name: str, layers: str) -> SwarmProcess:
            options = ("--model", "demo", "--layers", layers, "--threads", "1", "--bootstrap", address)
            where = ("--host", "127.0.0.1", "--port", "0", "--key", str(tmp_path / f"{name}.key"))
            processes.append(SwarmProcess("worker", *where, *options, forked=True))
            return processes[-1]

        leaver, victim = worker("leaver", "0-11"), worker("victim", "12-17")
        present = [(leaver.ready().peer, "0-11", True), (victim.ready().peer, "12-17", True)]
        assert shown(place) == present
        assert leaver.end() == 0
        assert shown(place) == present[1:]
        victim.end(signal.SIGKILL)
        assert shown(place) == [(victim.peer, "12-17", False)]  # nobody can say so: until its record expires
        again = worker("victim", "20-23").ready()
        assert again.peer == victim.peer
        assert shown(place) == [(victim.peer, "20-23", True)]
    finally:
        close_all(processes)
