"""The TCP half of a link: connections to the public port are made again to the real one, and bytes are pumped between.

A pump reads little ahead, and both sockets have small buffers, so that a narrow link is felt by the sender and not hidden in
memory. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

from chaos.network.weather import Lane

READ_BYTES = 16 << 10
AHEAD = 256  # reads on their way in one direction of a connection
BUFFER_BYTES = 128 << 10  # in the kernel, each socket
CONNECT_SECONDS = 4.0
_LINGER_RESET = struct.pack("ii", 1, 0)  # close sends RST


class Pipes:
    """All connections of one link."""

    def __init__(self, real: tuple[str, int], to: Lane, back: Lane) -> None:
        self.half_open = False  # the end of one side is not told to the other
        self.cut_after: int | None = None  # so many more bytes from the process pass, then their connection is reset
        self.cuts = 0  # connections that `cut_after` ended
        self.to, self.back = to, back
        self.changed = asyncio.Event()  # replaced at every change of weather
        self._real = real
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        return len(self._connections)

    async def listen(self, host: str, port: int) -> None:
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _shrink(raw)
        raw.bind((host, port))
        self._server = await asyncio.start_server(self._accept, sock=raw, limit=READ_BYTES)

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def weather_changed(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def reset(self) -> None:
        """Every connection ends with RST, both ways."""
        for connection in tuple(self._connections):
            connection.reset()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.to.weather.blackhole:
            await self.changed.wait()
        try:
            raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            _shrink(raw)
            raw.setblocking(False)
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(raw, self._real)
            far_reader, far_writer = await asyncio.open_connection(sock=raw, limit=READ_BYTES)
        except (OSError, TimeoutError):
            raw.close()
            _reset(writer)
            return
        connection = _Connection(self, (reader, writer), (far_reader, far_writer))
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """A pump each way. Ends when either side has ended and its bytes were delivered."""

    def __init__(self, pipes: Pipes, near: Side, far: Side) -> None:
        self._pipes = pipes
        self._near, self._far = near, far
        self._tasks: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        _reset(self._near[1])
        _reset(self._far[1])
        for task in self._tasks:
            task.cancel()

    async def run(self) -> None:
        pipes = self._pipes
        pumps = (
            self._pump(self._near, self._far, pipes.to, False),
            self._pump(self._far, self._near, pipes.back, True),
        )
        self._tasks = {asyncio.create_task(pump) for pump in pumps}
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            if pipes.half_open:
                await asyncio.wait(self._tasks)
            failed = any(not task.cancelled() and task.exception() for task in self._tasks if task.done())
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for _, writer in (self._near, self._far):
                writer.close()
        if failed:
            self.reset()

    async def _pump(self, source: Side, sink: Side, lane: Lane, from_process: bool) -> None:
        """Until the source ends. Raises OSError for a connection that broke."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(AHEAD)
        delivering = asyncio.create_task(self._deliver(queue, sink[1], lane))
        loop = asyncio.get_running_loop()
        due = 0.0
        try:
            while data := await source[0].read(READ_BYTES):
                if from_process and not self._may_pass(data):
                    return
                due = max(due, lane.due(len(data), loop.time()))
                full = asyncio.ensure_future(queue.put((due, lane.stretch(data))))
                await asyncio.wait({full, delivering}, return_when=asyncio.FIRST_COMPLETED)
                if delivering.done():
                    full.cancel()
                    delivering.result()
            while self._pipes.half_open:
                await self._pipes.changed.wait()
            await queue.put((due, b""))
            await delivering
        finally:
            delivering.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await delivering

    async def _deliver(self, queue: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter, lane: Lane) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            while lane.weather.blackhole:
                await self._pipes.changed.wait()
            if not data:
                return
            size = lane.weather.slice_bytes or len(data)
            for start in range(0, len(data), size):
                sink.write(data[start : start + size])
                await sink.drain()
                if size < len(data):
                    await asyncio.sleep(0)

    def _may_pass(self, data: bytes) -> bool:
        """False once `cut_after` has been reached: what would have passed of `data` does, and the connection is reset."""
        pipes = self._pipes
        if pipes.cut_after is None:
            return True
        if len(data) <= pipes.cut_after:
            pipes.cut_after -= len(data)
            return True
        part, pipes.cut_after = data[: pipes.cut_after], None
        pipes.cuts += 1
        if part:
            self._near[1].write(part)
            self._near[1].close()
        _reset(self._far[1])
        if not part:
            _reset(self._near[1])
        return False


def _shrink(raw: socket.socket) -> None:
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    writer.transport.abort()
