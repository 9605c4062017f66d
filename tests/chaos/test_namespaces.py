"""Machines of their own: what a kernel's network does between them. Skipped where there are no namespaces."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.models import make_model

from chaos.faults import LoseReply, Part, Reset
from chaos.network.namespaces import Namespaces, Wire, missing
from chaos.network.proxy import Proxy
from swarm.errors import UsageFault

ROOT = Path(__file__).parents[2]
WHY = missing()
needs_namespaces = pytest.mark.skipif(WHY is not None, reason=str(WHY))
SERVER = """\
import socket, sys
with socket.create_server((sys.argv[1], 7700)) as server:
    print("ready", flush=True)
    while True:
        connection, _ = server.accept()
        connection.sendall(connection.recv(100))
"""


def here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


class Far:
    """A process on another machine that says back what it hears."""

    def __init__(self, wire: Wire, folder: Path) -> None:
        (folder / "far_server.py").write_text(SERVER)
        command = wire.command("-m", "far_server", wire.host)
        environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"}
        self.process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, env=environment)

    async def ready(self) -> None:
        assert self.process.stdout is not None
        assert await asyncio.to_thread(self.process.stdout.readline) == b"ready\n"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


async def echo(place: tuple[str, int], seconds: float = 20.0) -> bytes:
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(*place)
        try:
            writer.write(b"hello")
            return await reader.read(100)
        finally:
            writer.transport.abort()


@needs_namespaces
def test_a_process_on_a_machine_of_its_own_is_reached_until_it_is_cut_off(tmp_path: Path) -> None:
    async def main() -> None:
        before = here()
        async with Namespaces(seed=1) as network:
            assert here() != before
            far_wire, other = await network.link("far"), await network.link("other")
            far, place = Far(far_wire, tmp_path), (far_wire.host, far_wire.public)
            try:
                await far.ready()
                assert await echo(place) == b"hello"
                far_wire.part("client", "back")  # it hears, and is not heard
                with pytest.raises(TimeoutError):
                    await echo(place, 0.3)
                far_wire.rejoin("client")
                far_wire.part("other")
                assert await echo(place) == b"hello"
                with pytest.raises(ConnectionRefusedError):  # a living kernel, and nobody who listens
                    await echo((other.host, other.public))
                far_wire.change(loss=0.05)  # which TCP makes good
                assert await asyncio.gather(*(echo(place) for _ in range(20))) == [b"hello"] * 20
                assert network.switch.counters["lost"] > 0
            finally:
                far.close()
        assert here() == before

    files = len(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert len(os.listdir("/proc/self/fd")) == files


@needs_namespaces
def test_a_machine_that_vanishes_sends_no_word_and_one_that_is_killed_does(tmp_path: Path) -> None:
    async def main() -> None:
        async with Namespaces(seed=1) as network:
            wire = await network.link("far")
            far = Far(wire, tmp_path)
            try:
                await far.ready()
                reader, writer = await asyncio.open_connection(wire.host, wire.public)
                writer.write(b"hello")
                assert await reader.read(100) == b"hello"
                wire.change(blackhole=True)
                far.close()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await reader.read(100)
                wire.calm("blackhole")
                async with asyncio.timeout(20):  # the kernel tells what it could not
                    with suppress(ConnectionResetError):
                        assert await reader.read(100) == b""
                writer.transport.abort()
            finally:
                far.close()

    asyncio.run(main())


@needs_namespaces
def test_what_only_the_proxy_can_do_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with Namespaces() as network:
            wire = await network.link("worker-0a")
            wire.pipes.half_open = True
            wire.pipes.cut_after = None
            for fault in (Reset(), LoseReply()):
                with pytest.raises(UsageFault, match="without --namespaces"):
                    fault.apply(Of(wire))

    asyncio.run(main())


class Of:
    """As much of a member as a link's fault needs."""

    def __init__(self, link: object) -> None:
        self.link = link


def test_what_only_namespaces_can_do_is_said() -> None:
    async def main() -> None:
        async with Proxy() as proxy:
            with pytest.raises(UsageFault, match="with --namespaces"):
                Part().apply(Of(await proxy.link("worker-0a")))

    asyncio.run(main())


def test_where_there_are_none_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *arguments: int) -> None:
        raise PermissionError(1, "unshare: Operation not permitted")

    monkeypatch.setattr("chaos.network.namespaces._call", refuse)

    async def main() -> None:
        with pytest.raises(UsageFault, match=r"need Linux, root and /dev/net/tun: .*unshare: Operation not permitted"):
            await Namespaces().__aenter__()

    asyncio.run(main())


PROGRAM = """\
import asyncio, sys
from pathlib import Path
from chaos.faults import HalfOpen
from chaos.runner.invariants import breaches
from chaos.runner.run import Run, Setup
from chaos.scenarios import Layout, Scenario
from chaos.scenarios.model import struck
scenario = Scenario(1, "short", "one worker of two vanishes", (struck("vanish", HalfOpen(), part=0),), Layout(spans=1))
outcome = asyncio.run(Run(scenario, Setup(Path(sys.argv[1]), 3, seed=3, namespaces=True)).run())
print(breaches(outcome, {0: "0-2"}), [request.recoveries for case in outcome.cases for request in case.requests])
"""


@needs_namespaces
def test_a_worker_that_vanishes_is_replaced(tmp_path: Path) -> None:
    """A whole run, in a process of its own: it computes with one thread and moves to another namespace."""
    model = make_model(tmp_path / "model", num_hidden_layers=3, tokenizer=True)
    words = [sys.executable, "-c", PROGRAM, str(model)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1:] == ["[] [1]"], done.stdout + done.stderr
