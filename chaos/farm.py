"""Real swarm processes, each behind a link of the proxy, that can be killed, paused, told to stop and started again.

Every child leaves when its stdin ends (`--exit-with-stdin`), so even SIGKILL of this process leaves none behind. A process that
is started again keeps its key and its ports: to the others it is the same peer. Knows nothing of faults or scenarios.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import psutil

from chaos.computers import Computer, build_other, unlike
from chaos.network.namespaces import Namespaces, Wire
from chaos.network.proxy import Link, Proxy
from chaos.process import write_faults
from swarm.errors import LocalFault
from swarm.identity import PeerId

START_SECONDS = 120.0  # until a process says that it serves
STOP_SECONDS = 45.0  # from SIGTERM to its end: a worker lets running sessions finish first
ROAMING_SECONDS = "1.5"  # between two looks of a worker that roams
SHOWN_LOG_BYTES = 2000
SIGNS_OF_A_BUG = ("Traceback (most recent call last)", "Task was destroyed", "was never retrieved", "never awaited")


@dataclass(frozen=True, slots=True)
class Layout:
    """Which processes a scenario needs."""

    spans: int = 3  # parts that the layers are cut into
    replicas: int = 2  # workers of each part
    roaming: int = 0  # workers besides that choose their layers, as many as a part has at most, and move
    bootstraps: int = 1
    inside: bool = False  # processes can have faults inside (chaos.process)
    options: tuple[str, ...] = ()  # of every worker's command line; else none waits for a successor
    unlike: bool = False  # workers differ in threads, instruction sets and in the compiler of their kernels

    @property
    def numerics(self) -> str:
        """Of workers, and of the unsplit model that they are compared with."""
        return "portable" if self.unlike else "auto"


class Member:
    """A process of the farm and its link."""

    def __init__(
        self,
        name: str,
        mode: str,
        arguments: tuple[str, ...],
        link: Link | Wire,
        folder: Path,
        *,
        inside: bool = False,
        computer: Computer | None = None,
    ) -> None:
        self.name = name
        self.mode = mode  # "bootstrap" or "worker"
        self.span = 0  # number of the part that a worker holds; of one that roams: one that there is not
        self.layers = ""  # of that part
        self.roams = False
        self.link = link
        self.peer: PeerId | None = None
        self.faults: list[str] = []  # in force, for the picture
        self.paused = False
        self.ready_at: float | None = None  # of the monotonic clock, when it last came to serve
        self.computer = computer  # None: one thread, and whatever the environment says
        self.log = folder / f"{name}.log"
        self._arguments = arguments
        self._key = folder / f"{name}.key"
        self._faults = folder / f"{name}.json"  # inside
        self._inside = inside
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def serving(self) -> bool:
        return self.alive and not self.paused and self.ready_at is not None

    @property
    def short(self) -> str:
        return self.peer.short if self.peer else ""

    @property
    def _command(self) -> tuple[str, ...]:
        return ("-m", "chaos.process", "--faults", str(self._faults)) if self._inside else ("-m", "swarm")

    async def start(self) -> None:
        """Returns once it serves. Raises LocalFault."""
        command = self.link.command(*self._command, self.mode)
        with self.log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, *command, "--host", self.link.host, "--port", str(self.link.real)),
                *("--public-port", str(self.link.public), "--key", str(self._key), "--exit-with-stdin"),
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=os.environ
                | {"SWARM_BOOTSTRAP": "", "SWARM_KEY": "", "OMP_NUM_THREADS": "1"}
                | (self.computer.environment if self.computer else {}),
                process_group=0,
            )
        assert self._process.stdout is not None
        line = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                line = (await self._process.stdout.readline()).decode()
        word, _, peer = [*line.split(), "", "", ""][:3]
        if word != "ready":
            tail = self.log.read_bytes()[-SHOWN_LOG_BYTES:].decode(errors="replace").strip()
            raise LocalFault(f"{self.name} does not serve: {tail or 'it said nothing'}")
        self.peer = PeerId.parse(peer)
        self.ready_at = time.monotonic()

    def send(self, number: int) -> None:
        """A signal, if there is a process. SIGSTOP and SIGCONT are remembered."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            self.paused = number == signal.SIGSTOP
        if number == signal.SIGKILL:
            self.ready_at = None

    def tell(self, **changes: Any) -> None:
        """Change the faults inside (fields of `chaos.process.Inside`); they outlive the process."""
        assert self._inside, f"{self.name} has no faults inside: the scenario's layout says whether it may"
        write_faults(self._faults, **changes)

    async def ended(self, seconds: float = STOP_SECONDS) -> None:
        """Once it has left. One that takes longer is killed: TimeoutError."""
        process = self._process
        if process is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await process.wait()
            raise
        finally:
            self.paused, self.ready_at = False, None
            if process.stdin is not None:
                process.stdin.close()

    def resources(self) -> tuple[int, int]:
        """Resident bytes and open files."""
        process = psutil.Process(self.pid)
        return process.memory_info().rss, process.num_fds()

    def complaints(self) -> list[str]:
        """What its log says that only a bug would."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [f"{self.name}: {sign}: {text[text.index(sign) :][:600]}" for sign in SIGNS_OF_A_BUG if sign in text]

    def __repr__(self) -> str:
        state = "paused" if self.paused else "serving" if self.serving else "down"
        return f"<{self.name} {self.short} {state}{''.join(f', {fault}' for fault in self.faults)}>"


class Farm:
    """`async with Farm(layout, model, layers) as farm`: every process serves. Leaving kills and reaps every one."""

    def __init__(
        self,
        layout: Layout,
        model: Path,
        layers: int,
        *,
        precision: str = "bf16",
        seed: int = 0,
        network: Proxy | Namespaces | None = None,
    ) -> None:
        self.layout = layout
        self.model = model
        self.precision = precision
        self.members: list[Member] = []
        self.network = network or Proxy(seed)
        self._layers = layers
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def workers(self) -> list[Member]:
        return [member for member in self.members if member.mode == "worker"]

    @property
    def bootstraps(self) -> list[Member]:
        return [member for member in self.members if member.mode == "bootstrap"]

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Where newcomers ask."""
        return tuple((member.link.host, member.link.public) for member in self.bootstraps)

    @property
    def files(self) -> int:
        """Open files of this process that are the farm's: the network's sockets, and a pipe each way to every child."""
        return self.network.sockets + sum(2 * member.alive for member in self.members)

    def of(self, span: int) -> list[Member]:
        """Workers of a part of the layers."""
        return [worker for worker in self.workers if worker.span == span]

    def said(self, text: str) -> int:
        """How often processes have said so, in all their lives."""
        logs = [member.log.read_text(errors="replace") for member in self.members if member.log.exists()]
        return sum(log.count(text) for log in logs)

    def find(self, short: str) -> Member | None:
        return next((member for member in self.members if member.short == short), None)

    async def __aenter__(self) -> Farm:
        self._folder = tempfile.TemporaryDirectory(prefix="swarm-chaos-")
        await self.network.__aenter__()
        try:
            for number in range(self.layout.bootstraps):
                member = await self._add(f"bootstrap-{number}", "bootstrap", Path(self._folder.name))
                await member.start()
            await self._add_workers(Path(self._folder.name))
            await start_all(worker for worker in self.workers if not worker.roams)
            await start_all(worker for worker in self.workers if worker.roams)
        except BaseException:  # also when interrupted: __aexit__ is not called, and no process may be left
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        for member in self.members:
            member.send(signal.SIGKILL)
        await asyncio.gather(*(member.ended() for member in self.members))
        await self.network.__aexit__()
        assert self._folder is not None
        self._folder.cleanup()

    async def _add_workers(self, folder: Path) -> None:
        layout = self.layout
        computers: list[Computer] = []
        if layout.unlike:
            computers = unlike(layout.spans * layout.replicas, await asyncio.to_thread(build_other, folder))
        cuts = [self._layers * part // layout.spans for part in range(layout.spans + 1)]
        places = product(range(layout.replicas), enumerate(pairwise(cuts)))
        for number, (replica, (span, (start, stop))) in enumerate(places):
            name, computer = f"worker-{span}{ascii_lowercase[replica]}", computers[number] if computers else None
            threads = computer.threads if computer else 1
            held = ("--model", str(self.model), "--layers", f"{start}-{stop - 1}", "--precision", self.precision)
            how = ("--numerics", layout.numerics, "--device", "cpu", "--threads", str(threads), "--successor", "0")
            member = await self._add(name, "worker", folder, *held, *how, *layout.options, computer=computer)
            member.span, member.layers = span, f"{start}-{stop - 1}"
        for number in range(layout.roaming):
            member = await self._add(f"roaming-{number}", "worker", folder, *self._roaming(cuts[1]), *layout.options)
            member.span, member.layers, member.roams = layout.spans, "auto", True

    def _roaming(self, most: int) -> tuple[str, ...]:
        """Arguments of a worker that chooses its layers, so many at most, and moves."""
        held = ("--model", str(self.model), "--layers", f"auto:{most}", "--precision", self.precision)
        how = ("--numerics", self.layout.numerics, "--device", "cpu", "--threads", "1")
        return (*held, *how, "--move-every", ROAMING_SECONDS, "--successor", "0")

    async def _add(
        self, name: str, mode: str, folder: Path, *arguments: str, computer: Computer | None = None
    ) -> Member:
        """A process that knows the bootstraps before it."""
        known = [word for host, port in self.places for word in ("--bootstrap", f"{host}:{port}")]
        link = await self.network.link(name)
        shown = (*arguments, *known)
        member = Member(name, mode, shown, link, folder, inside=self.layout.inside, computer=computer)
        self.members.append(member)
        return member


async def start_all(members: Iterable[Member]) -> None:
    """At once; when one fails the others are still waited for."""
    results = await asyncio.gather(*(member.start() for member in members), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
