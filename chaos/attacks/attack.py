"""Attackers: `python -m chaos.attacks.attack JSON` is a process that does one kind of harm to workers until its stdin ends.

It comes from addresses of its own (127.0.2.0/24 where the swarm is 127.0.0.1), with keys of its own where it needs any, and its
process is the most patient of the machine: on a real network an attacker would not take the workers' processor time.
It says `attacking` once it does, and at the end what it met with, as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import socket
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from chaos.attacks import hostile
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.transport.tls.certificates import contexts
from swarm.wire.connection import Connection, Role
from swarm.wire.events import Answered, Greeted, Violated
from swarm.wire.frames import HEADER
from swarm.wire.messages import Message, Open, Opened, Renew

SOURCES = tuple(f"127.0.2.{number}" for number in range(1, 21))
KEYS = 8  # identities that are used in turn: keys are free
HALF_OPEN = 10_000
PER_SECOND = 1200  # half-open connections begun
AT_A_TIME = 20
SPARE_FILES = 200
DRIPS = 120
DRIP_HEAD = 200 << 10  # of a message of 64 MiB that then drips
MALFORMED_PER_SECOND = 20  # what they say is the point, not how many they are
VERDICT_SECONDS = 2.0  # in which a worker must have refused what is malformed
HOG_SECONDS = 1.0  # between two attempts to take more
MAX_HOGGED = 2000  # sessions
LAST_WORDS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """A worker, and what a peer would know of it."""

    host: str
    port: int
    layers: tuple[int, int]


@dataclass(slots=True)
class Ground:
    """What an attack is made on, and what it met with."""

    targets: list[Target]
    digest: bytes
    precision: str
    hidden: int
    context_rows: int
    met: Counter[str] = field(default_factory=Counter)
    sources: Iterator[str] = field(default_factory=lambda: itertools.cycle(SOURCES))
    keys: Iterator[ssl.SSLContext] = field(
        default_factory=lambda: itertools.cycle([contexts(Identity.generate())[1] for _ in range(KEYS)])
    )


class Stranger:
    """A peer with a key of its own, which says Hello and then what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._wire = Connection(Role.DIALLER, "stranger", 64 << 10)

    @classmethod
    async def meet(cls, ground: Ground, target: Target) -> Stranger:
        """Raises OSError."""
        reader, writer = await asyncio.open_connection(
            target.host, target.port, ssl=next(ground.keys), local_addr=(next(ground.sources), 0)
        )
        stranger = cls(reader, writer)
        stranger._say(stranger._wire.hello())
        await stranger._events(lambda event: isinstance(event, Greeted))
        return stranger

    async def ask(self, message: Message) -> Message:
        """Raises OSError when the worker hangs up."""
        self._say(self._wire.send(self._wire.new_stream(), message))
        answered = await self._events(lambda event: isinstance(event, Answered))
        assert isinstance(answered, Answered)
        return answered.message

    async def open(self, ground: Ground, target: Target, rows: int) -> tuple[bytes, bool]:
        """A session's name, and whether it was opened."""
        name = os.urandom(16)
        asked = Open(name, ground.digest, LayerSpan(*target.layers), ground.precision, rows)
        return name, isinstance(await self.ask(asked), Opened)

    async def hung_up(self) -> bool:
        """Whether the worker ended the connection in time."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(VERDICT_SECONDS):
                while await self.reader.read(1 << 16):
                    pass
                return True
        return self.reader.at_eof()

    def leave(self) -> None:
        self.writer.transport.abort()

    def _say(self, frames: list[tuple[bytes, memoryview]]) -> None:
        self.writer.write(b"".join(part for frame in frames for part in frame))

    async def _events(self, wanted: Callable[[object], bool]) -> object:
        while data := await self.reader.read(1 << 16):
            for event in self._wire.receive_data(data):
                if isinstance(event, Violated):
                    raise ConnectionResetError(str(event.fault))
                if wanted(event):
                    return event
        raise ConnectionResetError("the worker hung up")


async def half_open(ground: Ground, begun: asyncio.Event) -> None:
    """Connections that never say a word, all held open at this end."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HALF_OPEN + SPARE_FILES
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    held: list[socket.socket] = []
    targets = itertools.cycle(ground.targets)
    for number in range(HALF_OPEN):
        if len(held) >= files - SPARE_FILES:
            held.pop(0).close()
            ground.met["closed for want of files here"] += 1
        target = next(targets)
        raw = socket.socket(socket.AF_INET6 if ":" in target.host else socket.AF_INET)
        raw.setblocking(False)
        raw.bind((next(ground.sources), 0))
        with suppress(BlockingIOError):  # it is under way: nobody waits for it
            raw.connect((target.host, target.port))
        held.append(raw)
        ground.met["opened"] += 1
        if number % AT_A_TIME == 0:
            begun.set()
            await asyncio.sleep(AT_A_TIME / PER_SECOND)
    try:
        await asyncio.Event().wait()
    finally:
        for raw in held:
            try:
                raw.recv(1)
                ground.met["refused"] += 1
            except BlockingIOError:
                ground.met["unanswered"] += 1
            except OSError:
                ground.met["refused"] += 1


async def drip(ground: Ground, begun: asyncio.Event) -> None:
    """One byte a second: of a handshake, of a frame's header, of a large message that had begun well."""

    async def to_handshake(target: Target) -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection(target.host, target.port, local_addr=(next(ground.sources), 0))
        writer.write(b"\x16\x03\x01\x02\x00\x01")
        return writer

    async def to_header(target: Target) -> asyncio.StreamWriter:
        return (await Stranger.meet(ground, target)).writer

    async def to_body(target: Target) -> asyncio.StreamWriter:
        stranger = await Stranger.meet(ground, target)
        rows = (64 << 20) // (2 * ground.hidden)
        whole = hostile.forward(bytes(16), ["bf16", [rows, ground.hidden], "raw", 2 * rows * ground.hidden])
        metadata = whole[HEADER.size :]
        for number in range(DRIP_HEAD // 10_000):
            stranger.writer.write(hostile.frame(hostile.FORWARD, b"" if number else metadata, bytes(10_000), flags=1))
        return stranger.writer

    async def one(target: Target, reach: Callable[[Target], Awaitable[asyncio.StreamWriter]]) -> None:
        while True:
            with suppress(OSError):
                writer = await reach(target)
                ground.met["dripping"] += 1
                while not writer.transport.is_closing():
                    writer.write(b"\x10")
                    await asyncio.sleep(1.0)
                ground.met["cut off"] += 1
            await asyncio.sleep(0.5)

    async with asyncio.TaskGroup() as group:
        for number, reach in zip(range(DRIPS), itertools.cycle((to_handshake, to_header, to_body)), strict=False):
            group.create_task(one(ground.targets[number // 3 % len(ground.targets)], reach))
        await asyncio.sleep(2.0)
        begun.set()


async def malformed(
    ground: Ground, begun: asyncio.Event, payloads: Callable[[bytes], Iterator[bytes]], session: bool
) -> None:
    """A new connection for each payload, so many a second; `session`: with a session open, if the worker opens one."""
    verdicts: set[asyncio.Task[None]] = set()
    all_of_them = list(payloads(bytes(16)))

    async def one(payload: bytes, target: Target) -> None:
        try:
            stranger = await Stranger.meet(ground, target)
            name, opened = await stranger.open(ground, target, 64) if session else (b"", True)
        except OSError:
            ground.met["turned away"] += 1
            return
        if not opened:
            ground.met["no session"] += 1
        stranger.writer.write(payload.replace(bytes(16), name, 1) if session else payload)
        ground.met["refused" if await stranger.hung_up() else "borne"] += 1
        stranger.leave()

    targets = itertools.cycle(ground.targets)
    while True:
        for payload, target in zip(all_of_them, targets, strict=False):
            task = asyncio.create_task(one(payload, target))
            verdicts.add(task)
            task.add_done_callback(verdicts.discard)
            await asyncio.sleep(1 / MALFORMED_PER_SECOND)
            begun.set()


async def hog(ground: Ground, begun: asyncio.Event) -> None:
    """Sessions of the whole context, as many as the workers open, with as many keys as it takes, held for as long as it can."""
    held: list[tuple[Stranger, bytes]] = []

    async def take(target: Target, stranger: Stranger) -> None:
        while len(held) < MAX_HOGGED:
            name, opened = await stranger.open(ground, target, ground.context_rows)
            if not opened:
                ground.met["refused"] += 1
                return
            held.append((stranger, name))
            ground.met["sessions"] += 1

    strangers = [(target, await Stranger.meet(ground, target)) for target in ground.targets for _ in range(KEYS)]
    while True:
        for target, stranger in strangers:
            with suppress(OSError):
                await take(target, stranger)
        begun.set()
        for stranger, name in held:
            with suppress(OSError):
                await stranger.ask(Renew(name))
        await asyncio.sleep(HOG_SECONDS)


ATTACKS: dict[str, Callable[[Ground, asyncio.Event], Awaitable[None]]] = {
    "half-open": half_open,
    "drip": drip,
    "lengths": lambda ground, begun: malformed(ground, begun, lambda name: hostile.lengths(), session=False),
    "lies": lambda ground, begun: malformed(
        ground, begun, lambda name: hostile.lies(name, ground.hidden, ground.precision), session=True
    ),
    "nesting": lambda ground, begun: malformed(ground, begun, lambda name: hostile.nesting(), session=False),
    "hog": hog,
}


async def main(kind: str, ground: Ground) -> None:
    """Attack until stdin ends."""
    loop, begun, over = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.set_exception_handler(lambda *_: None)  # connections that are cut off are what an attacker lives with
    threading.Thread(target=_until_stdin_ends, args=(lambda: loop.call_soon_threadsafe(over.set),), daemon=True).start()
    attack = asyncio.ensure_future(ATTACKS[kind](ground, begun))
    waits = [asyncio.ensure_future(event.wait()) for event in (begun, over)]
    await asyncio.wait((attack, waits[0], waits[1]), return_when=asyncio.FIRST_COMPLETED)
    if begun.is_set():
        sys.stdout.write("attacking\n")
        sys.stdout.flush()
    await asyncio.wait((attack, waits[1]), return_when=asyncio.FIRST_COMPLETED)
    if attack.done():
        attack.result()  # it never ends by itself: whatever ended it is a bug of the attacker's
    attack.cancel()
    await asyncio.wait((attack,))
    sys.stdout.write(json.dumps(ground.met) + "\n")
    sys.stdout.flush()
    os._exit(0)


def _until_stdin_ends(tell: Callable[[], object]) -> None:
    while os.read(0, 1 << 12):
        pass
    tell()


if __name__ == "__main__":
    os.nice(19)
    told = json.loads(sys.argv[1])
    places = [Target(host, port, (start, stop)) for host, port, start, stop in told["targets"]]
    about = (bytes.fromhex(told["digest"]), told["precision"], told["hidden"], told["context_rows"])
    asyncio.run(main(told["kind"], Ground(places, *about)))
