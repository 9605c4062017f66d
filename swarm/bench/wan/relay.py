"""A process that stands before others' TCP ports and lets bytes pass as a long and narrow link would, one way like the other.

`python -m swarm.bench.wan.relay DELAY RATE HOST:PORT…` (seconds, bytes a second) prints a port for each; it ends with its input.
It waits by select, whose timeouts are exact to microseconds where epoll's are rounded up to milliseconds.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections import deque
from dataclasses import dataclass
from functools import partial

import click

HOST = "127.0.0.1"
READ_BYTES = 64 << 10
MAX_UNDER_WAY_BYTES = 8 << 20  # of one connection, each way: more than a link of 100 Mbit/s holds in half a second


@dataclass(slots=True)
class Lane:
    """One direction to or from a machine, shared by its connections."""

    delay: float  # seconds
    rate: float  # bytes a second
    free_at: float = 0.0

    def due(self, size: int, now: float) -> float:
        """When bytes arrive that are handed over now."""
        self.free_at = max(now, self.free_at) + size / self.rate
        return self.free_at + self.delay


async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, lane: Lane) -> None:
    """Bytes from one end to the other, late, until there are no more."""
    loop = asyncio.get_running_loop()
    under_way: deque[tuple[float, bytes]] = deque()
    waiting = 0
    change = asyncio.Event()

    async def arrive() -> None:
        nonlocal waiting
        while True:
            while not under_way:
                change.clear()
                await change.wait()
            due, data = under_way[0]
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                return
            sink.write(data)
            await sink.drain()
            under_way.popleft()
            waiting -= len(data)
            change.set()

    arriving = asyncio.create_task(arrive())
    try:
        data = b"-"
        while data:
            while waiting > MAX_UNDER_WAY_BYTES:
                change.clear()
                await change.wait()
            data = await source.read(READ_BYTES)
            under_way.append((lane.due(len(data), loop.time()), data))
            waiting += len(data)
            change.set()
        await arriving
    except ConnectionError:
        pass  # either end has gone, and the other is told by closing
    finally:
        arriving.cancel()
        sink.close()


async def join(
    delay: float,
    lanes: tuple[Lane, Lane],
    host: str,
    port: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """A connection that came, and one to the machine behind. It takes as long to be made as over a real link."""
    await asyncio.sleep(2 * delay)
    try:
        inner_reader, inner_writer = await asyncio.open_connection(host, port)
    except ConnectionError:
        writer.close()
        return
    towards, back = lanes
    await asyncio.gather(carry(reader, inner_writer, towards), carry(inner_reader, writer, back))


async def main(delay: float, rate: float, targets: list[str]) -> None:
    servers, ports = [], []
    for target in targets:
        host, port = target.rsplit(":", 1)
        lanes = Lane(delay, rate), Lane(delay, rate)
        servers.append(await asyncio.start_server(partial(join, delay, lanes, host, int(port)), HOST, 0))
        ports.append(servers[-1].sockets[0].getsockname()[1])
    click.echo(" ".join(map(str, ports)))
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for server in servers:
        server.close()


if __name__ == "__main__":
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
