"""The open port: every TCP connection that arrives, until it has proved a key or was turned away.

Who may begin is judged by `admission`; a connection that says nothing costs no TLS. Knows nothing of channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from swarm.config import ChannelConfig
from swarm.records import address_block
from swarm.trace import Trace
from swarm.transport.base import Stream
from swarm.transport.tls.admission import MAX_HANDSHAKE_BYTES, Handshakes
from swarm.transport.tls.certificates import NoIdentity
from swarm.transport.tls.sockets import names

Secure = Callable[[asyncio.Transport, bytes, Callable[[int], None]], Awaitable[Stream]]


class TlsListener:
    """`secure` shakes hands: it is given the connection, its first bytes, and whom to tell of more. Raises NoIdentity."""

    server: asyncio.Server

    def __init__(
        self, secure: Secure, port: int, on_stream: Callable[[Stream], None], config: ChannelConfig, trace: Trace
    ) -> None:
        self.port = port
        self._secure = secure
        self._on_stream = on_stream
        self._config = config
        self._trace = trace
        self._handshakes = Handshakes(config)
        self._arrivals: set[_Arrival] = set()

    def arrival(self) -> asyncio.Protocol:
        """For the next connection; the server's protocol factory."""
        return _Arrival(self)

    def arrived(self, arrival: _Arrival) -> None:
        """A TCP connection; nothing of it has been read."""
        now = asyncio.get_running_loop().time()
        refused, victim = self._handshakes.room(arrival.block, now)
        if refused is not None:
            self._refuse(arrival, refused)
            return
        if isinstance(victim, _Arrival):
            self._refuse(victim, "it made room for others in a crowd of unfinished handshakes")
        self._handshakes.begin(arrival, arrival.block, now)
        self._arrivals.add(arrival)
        arrival.deadline = asyncio.get_running_loop().call_later(self._config.handshake_seconds, self._late, arrival)

    def spoke(self, arrival: _Arrival, size: int) -> bool:
        """Whether it may go on."""
        arrival.early += size
        reason = self._handshakes.spoke(arrival, size, asyncio.get_running_loop().time())
        if arrival.early > MAX_HANDSHAKE_BYTES:
            reason = f"{arrival.early} bytes came and no key was proved"
        if reason is not None:
            self._refuse(arrival, reason)
        return reason is None

    def begin(self, arrival: _Arrival, first: bytes) -> None:
        """It speaks: shake hands."""
        arrival.task = asyncio.get_running_loop().create_task(self._shake_hands(arrival, first))

    def ended(self, arrival: _Arrival) -> None:
        """However it did."""
        self._handshakes.end(arrival)
        self._arrivals.discard(arrival)
        if arrival.deadline is not None:
            arrival.deadline.cancel()

    async def _shake_hands(self, arrival: _Arrival, first: bytes) -> None:
        assert arrival.raw is not None
        try:
            stream = await self._secure(arrival.raw, first, lambda size: self._more(arrival, size))
        except NoIdentity as error:
            if not arrival.refused:
                self._trace.failed("transport.handshake", remote=arrival.remote, reason=str(error))
            return
        finally:
            self.ended(arrival)
        self._on_stream(stream)

    def _more(self, arrival: _Arrival, size: int) -> None:
        self.spoke(arrival, size)

    def _late(self, arrival: _Arrival) -> None:
        self._refuse(arrival, f"the handshake took longer than {self._config.handshake_seconds:g} s")

    def _refuse(self, arrival: _Arrival, reason: str) -> None:
        self._trace.failed("transport.handshake", remote=arrival.remote, reason=reason)
        arrival.refused = True
        self.ended(arrival)
        assert arrival.raw is not None
        arrival.raw.abort()

    async def aclose(self) -> None:
        """See `base.Listener`."""
        self.server.close()
        tasks = [arrival.task for arrival in self._arrivals if arrival.task is not None]
        for arrival in tuple(self._arrivals):
            if arrival.task is not None:
                arrival.task.cancel()
            elif arrival.raw is not None:
                arrival.raw.abort()
            self.ended(arrival)
        await asyncio.gather(*tasks, return_exceptions=True)

    def __repr__(self) -> str:
        return f"TlsListener(port={self.port}, handshakes={len(self._handshakes)})"


@dataclass(slots=True, eq=False)
class _Arrival(asyncio.Protocol):
    """A TCP connection until its first bytes, which TLS is then given."""

    listener: TlsListener
    raw: asyncio.Transport | None = None
    remote: str = ""
    block: bytes = b""
    early: int = 0  # bytes received
    refused: bool = False
    deadline: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        assert isinstance(transport, asyncio.Transport)
        self.raw = transport
        host, self.remote = names(transport)
        self.block = address_block(host)
        self.listener.arrived(self)

    def data_received(self, data: bytes) -> None:
        """asyncio's: the first bytes."""
        assert self.raw is not None
        if self.listener.spoke(self, len(data)):
            self.raw.pause_reading()
            self.listener.begin(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio's: it left without a word, or was refused."""
        self.listener.ended(self)
