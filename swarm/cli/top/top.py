"""`swarm top`: a swarm as it is from one second to the next, on a terminal or for programs. Loads no torch."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from swarm.cli.answer.output import make_trace
from swarm.cli.bootstrap import need_bootstrap
from swarm.cli.chat.keys import CHUNK_BYTES, held
from swarm.cli.keys import bans_file
from swarm.cli.status.survey import ASK_SECONDS, joined
from swarm.cli.top.pulse import Pulse
from swarm.cli.top.sightings import Sightings
from swarm.client.audits.bans import Bans
from swarm.discovery import Directory
from swarm.errors import SwarmError
from swarm.identity import Identity
from swarm.transport.tls.network import TlsNetwork

if TYPE_CHECKING:
    from rich.console import Console, ScreenContext

LOOK_SECONDS = 0.5  # between two looks at the directory at most, so that who leaves is gone within a second
LOOKUP_SECONDS = 10.0  # that the directory may take for a look
FIRST_SECONDS = 2.0  # that the first picture waits for workers that are slow to answer
WIDTH = 120  # of what is printed where there is no terminal
DOWN, UP = (b"j", b"\x1b[B", b"\x1bOB"), (b"k", b"\x1b[A", b"\x1bOA")
PAGE_DOWN, PAGE_UP, PAGE = (b" ", b"\x1b[6~"), (b"\x1b[5~",), 10


@dataclass(frozen=True, slots=True)
class TopRequest:
    """What the command line said."""

    bootstrap: tuple[tuple[str, int], ...]
    swarm_key: bytes | None = None
    every: float = 1.0  # seconds
    once: bool = False
    as_json: bool = False


def run_top(request: TopRequest) -> None:
    """Until q or Ctrl-C. Raises SwarmError."""
    need_bootstrap(request.bootstrap)
    bans = Bans(bans_file(os.environ), time.time)
    bans.load()
    with suppress(KeyboardInterrupt):
        asyncio.run(_top(request, bans))


async def _top(request: TopRequest, bans: Bans) -> None:
    identity = Identity.generate()  # who looks is nobody's business
    trace = make_trace(False)
    network = TlsNetwork(identity, swarm_key=request.swarm_key)
    async with (
        joined(identity, request.bootstrap, request.swarm_key, trace) as directory,
        Pulse(network, request.every, trace) as pulse,
    ):
        watch = Watch(request, directory, pulse, bans)
        await watch.look()
        await pulse.settled(ASK_SECONDS if request.once else FIRST_SECONDS)
        watch.judge()
        if request.once or request.as_json or not sys.stdout.isatty():
            await watch.tell()
        else:
            await watch.show()


class Watch:
    """Looks again and again, and shows it."""

    def __init__(self, request: TopRequest, directory: Directory, pulse: Pulse, bans: Bans) -> None:
        self._request = request
        self._directory = directory
        self._pulse = pulse
        self._bans = bans
        self._sightings = Sightings(time.monotonic())
        self._skip = 0
        self._left = asyncio.Event()
        self._news = asyncio.Event()

    async def look(self) -> None:
        """A directory that does not answer in time lists what it listed before."""
        with suppress(TimeoutError, SwarmError):
            async with asyncio.timeout(LOOKUP_SECONDS):
                signed = await self._directory.lookup_all()
                if self._sightings.find(time.monotonic(), [each.record for each in signed]):
                    self._news.set()
        self._pulse.watch(self._sightings.watched())

    def judge(self) -> None:
        self._sightings.judge(time.monotonic(), self._pulse.health)

    async def tell(self) -> None:
        """Once, or for programs a line of JSON each time."""
        from swarm.cli.top import view

        once = self._request.once or not self._request.as_json
        looking = None if once else asyncio.create_task(self._look_on(), name="looks")
        while looking is None or not looking.done():
            now, banned = time.monotonic(), self._bans.banned()
            if self._request.as_json:
                click.echo(json.dumps(view.data(self._sightings, now, self._directory.time(), banned)))
            else:
                view.printed(self._sightings, now, _console(), banned, self._where)
            if looking is None:
                return
            await self._next()
            self.judge()
        await looking

    async def show(self) -> None:
        """On the whole terminal, until q."""
        looking = asyncio.create_task(self._look_on(), name="looks")
        loop, console = asyncio.get_running_loop(), _console()
        with ExitStack() as stack:
            if sys.stdin.isatty():
                stack.enter_context(held(sys.stdin.fileno()))
                loop.add_reader(sys.stdin.fileno(), self._key)
                stack.callback(loop.remove_reader, sys.stdin.fileno())
            stack.callback(looking.cancel)
            screen = stack.enter_context(console.screen(hide_cursor=True))
            while not self._left.is_set() and not looking.done():
                self.judge()
                self._draw(console, screen)
                await self._next()
        with suppress(asyncio.CancelledError):
            await looking

    async def _next(self) -> None:
        """Until it is time for another picture: after a while, or when a key was pressed or somebody came or left."""
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._request.every):
                await self._news.wait()

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(min(self._request.every, LOOK_SECONDS))
            await self.look()

    def _draw(self, console: Console, screen: ScreenContext) -> None:
        """Each line over the one that was there: nothing is wiped before, so nothing flickers."""
        from rich.segment import Segment, Segments

        from swarm.cli.top.view import frame

        lines, self._skip = frame(
            self._sightings, time.monotonic(), console, self._bans.banned(), self._where, self._skip
        )
        segments = [segment for line in lines for segment in (*line, Segment.line())]
        screen.update(Segments(segments[:-1]))

    def _key(self) -> None:
        try:
            raw = os.read(sys.stdin.fileno(), CHUNK_BYTES)
        except OSError:  # the terminal is gone
            raw = b""
        if not raw or raw[:1] in (b"q", b"Q", b"\x04"):
            self._left.set()
        step = 1 if raw in DOWN else -1 if raw in UP else PAGE if raw in PAGE_DOWN else -PAGE if raw in PAGE_UP else 0
        self._skip = max(0, self._skip + step)
        self._news.set()

    @property
    def _where(self) -> str:
        return ", ".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._request.bootstrap
        )


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
