"""An attack beside a case: the attackers' process, how far the workers' memory grew, and when the attackers held still.

They are stopped and go on again every second, so that what the machine does otherwise is the same under attack and without: the
gaps between the tokens of others are compared within one case. Their connections stay all the while.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from bisect import bisect
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

from chaos.farm import Member
from chaos.network.proxy import Link
from chaos.runner.load import Request
from swarm.checkpoint.config import read_spec
from swarm.checkpoint.manifest import read_manifest
from swarm.errors import LocalFault

BEGIN_SECONDS = 60.0
END_SECONDS = 20.0
SAMPLE_SECONDS = 0.2
BEAT_SECONDS = 1.0  # attackers act for so long, then hold still for as long


class Attack:
    """`async with Attack(kind, model, precision, workers) as attack`: under way. Afterwards `met` and `grown` tell."""

    def __init__(self, kind: str, model: Path, precision: str, workers: Sequence[Member]) -> None:
        self.kind = kind
        self.met: dict[str, int] = {}  # what the attackers met with
        self.grown: dict[str, int] = {}  # worker -> bytes of resident memory, at most, beyond those before
        self._model, self._precision, self._workers = model, precision, workers
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._turns: list[tuple[float, bool]] = []  # since when (monotonic) they act, or hold still

    async def __aenter__(self) -> Attack:
        spec = read_spec(self._model)
        targets: list[tuple[str, int, int, int]] = []
        for worker in self._workers:
            start, _, last = worker.layers.partition("-")
            port = worker.link.real if isinstance(worker.link, Link) else worker.link.public
            targets.append((worker.link.host, port, int(start), int(last) + 1))
        told: dict[str, Any] = {
            "kind": self.kind,
            "targets": targets,
            "digest": read_manifest(self._model).ref("").digest.hex(),
            "precision": self._precision,
            "hidden": spec.hidden,
            "context_rows": spec.max_positions,
        }
        before = {worker.name: worker.resources()[0] for worker in self._workers}
        self._tasks.append(asyncio.create_task(self._sample(before)))
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chaos.attacks.attack", json.dumps(told)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            process_group=0,
        )
        assert self._process.stdout is not None
        line = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_SECONDS):
                line = await self._process.stdout.readline()
        if line != b"attacking\n":
            await self.__aexit__()
            raise LocalFault(f"the attack '{self.kind}' did not begin within {BEGIN_SECONDS:g} s")
        self._tasks.append(asyncio.create_task(self._beat()))
        return self

    async def __aexit__(self, *exc: object) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.stdin.close()
        with suppress(TimeoutError, ValueError):
            async with asyncio.timeout(END_SECONDS):
                self.met = json.loads(await process.stdout.readline() or b"{}")
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    def turns(self, requests: Sequence[Request]) -> list[tuple[bool, list[float]]]:
        """For each turn, whether the attackers acted, and seconds between tokens both of which came in it."""
        found: list[tuple[bool, list[float]]] = [(acting, []) for _, acting in self._turns]
        for request in requests:
            for before, after in pairwise(request.times):
                first, last = (bisect(self._turns, (moment, True)) - 1 for moment in (before, after))
                if first == last >= 0:
                    found[first][1].append(after - before)
        return found

    def gaps(self, requests: Sequence[Request], acting: bool) -> list[float]:
        """Of all turns in which the attackers acted, or held still."""
        return [gap for acted, gaps in self.turns(requests) if acted is acting for gap in gaps]

    async def _beat(self) -> None:
        assert self._process is not None
        for acting in cycle((True, False)):
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT if acting else signal.SIGSTOP)
            self._turns.append((time.monotonic(), acting))
            await asyncio.sleep(BEAT_SECONDS)

    async def _sample(self, before: dict[str, int]) -> None:
        while True:
            for worker in self._workers:
                if worker.serving:
                    grown = worker.resources()[0] - before[worker.name]
                    self.grown[worker.name] = max(self.grown.get(worker.name, 0), grown)
            await asyncio.sleep(SAMPLE_SECONDS)
