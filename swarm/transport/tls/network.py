"""The network of real machines: TCP with TLS 1.3, both ends proving their key (see `certificates`).

Two scratch buffers receive for all streams, since their bytes are consumed before the next are read. The kernel and the
transports below keep little that is not sent, so that an urgent frame waits behind little. Knows nothing of frames.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace

from swarm.config import ChannelConfig
from swarm.errors import PeerLost, PortInUse, UsageFault
from swarm.identity import Identity, PeerId
from swarm.records import Address
from swarm.trace import Trace
from swarm.transport.base import Buffer, Receiver, Stream
from swarm.transport.tls.certificates import NoIdentity, OtherSwarm, contexts, proved_peer
from swarm.transport.tls.dial import dial
from swarm.transport.tls.listener import TlsListener
from swarm.transport.tls.protocol import TlsLayer
from swarm.transport.tls.sockets import files_left, names, raise_file_limit, tune, unacknowledged

SCRATCH_BYTES = 256 << 10
RAW_BUFFER_BYTES = 32 << 10  # ciphertext waiting on this machine beside the kernel's own
MAX_EARLY_BYTES = 64 << 10  # taken before a stream has a receiver; reading stops then
BACKLOG = 256
LEAST_HANDSHAKES = 8  # unfinished at once, however few files the process may open
AT_ONCE = 1  # connections accepted in a turn of the loop, and tries in vain where no file is left
SPARE_FILES = 256  # that a listening process may need beside its connections


class TlsNetwork:
    """The streams of one identity: with a swarm key, to and from members of that private swarm alone."""

    def __init__(
        self,
        identity: Identity,
        trace: Trace | None = None,
        *,
        swarm_key: bytes | None = None,
        config: ChannelConfig | None = None,
    ) -> None:
        self.peer_id = identity.peer_id
        self._trace = trace or Trace()
        self._config = config or ChannelConfig()
        self._server_context, self._client_context = contexts(identity, swarm_key)
        self._swarm_key = swarm_key
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._ciphertext = memoryview(bytearray(SCRATCH_BYTES))

    async def connect(self, address: Address, expect: PeerId, reached: Callable[[], None] = lambda: None) -> Stream:
        """See `base.Network`."""
        stream = await self.meet(address.host, address.data, reached)
        if stream.peer_id != expect:
            stream.abort()
            raise PeerLost(f"{address} proves to be peer {stream.peer_id.short}, not {expect.short}")
        return stream

    async def meet(self, host: str, port: int, reached: Callable[[], None] = lambda: None) -> TlsStream:
        """A stream to whoever listens there. Waits without a deadline. Raises PeerLost."""
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            raw = await dial(_Unread, host, port)
        except OSError as error:
            raise PeerLost(f"{place} cannot be connected to: {_reason(error)}") from error
        reached()
        try:
            return await self._secure(raw)
        except OtherSwarm as error:
            raise PeerLost(f"{place} is of another swarm: {error}") from error
        except NoIdentity as error:
            raise PeerLost(f"{place} proves no identity: {error}") from error

    async def listen(self, host: str, port: int, on_stream: Callable[[Stream], None]) -> TlsListener:
        """See `base.Network`. An empty host, and `::`, mean every address of v4 and v6."""
        bound = _bind(host, port)
        raise_file_limit(self._config.max_channels + self._config.max_handshakes + SPARE_FILES)
        listener = TlsListener(
            lambda raw, first, early: self._secure(raw, first, early),
            bound.getsockname()[1],
            on_stream,
            within(self._config, files_left()),
            self._trace,
        )
        loop = asyncio.get_running_loop()
        listener.server = await loop.create_server(listener.arrival, sock=bound, backlog=AT_ONCE)
        bound.listen(BACKLOG)
        return listener

    async def _secure(
        self, raw: asyncio.Transport, first: bytes = b"", early: Callable[[int], None] | None = None
    ) -> TlsStream:
        """Shake hands over a TCP connection, as its server if there is somebody to tell of early bytes. Raises NoIdentity."""
        tune(raw.get_extra_info("socket"))
        raw.set_write_buffer_limits(high=RAW_BUFFER_BYTES)
        stream = TlsStream(raw, self._scratch)
        serves = early is not None
        context = self._server_context if serves else self._client_context
        layer = TlsLayer(
            stream, context, self._ciphertext, self._config.handshake_seconds, server_side=serves, early=early
        )
        try:
            secure = await layer.handshake(raw, first)
        except OSError as error:  # SSLError is one
            raise NoIdentity(f"the TLS handshake failed: {_reason(error)}") from error
        if secure is None:
            raise NoIdentity("the connection ended during the TLS handshake")
        try:
            stream.peer_id = proved_peer(secure.get_extra_info("ssl_object"), self._swarm_key)
        except NoIdentity:
            secure.abort()
            raise
        stream.secured(secure)
        return stream

    def __repr__(self) -> str:
        return f"TlsNetwork({self.peer_id.short})"


class TlsStream(asyncio.BufferedProtocol):
    """One connection, encrypted."""

    peer_id: PeerId

    def __init__(self, raw: asyncio.Transport, scratch: memoryview) -> None:
        self.host, self.remote = names(raw)
        self.full = False
        self._raw = raw
        self._socket = raw.get_extra_info("socket")
        self._scratch = scratch
        self._secure: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._early: bytearray | None = bytearray()  # received before there was a receiver; None from then on
        self._lost: str | None = None

    @property
    def unsent(self) -> int:
        """See `base.Stream`: what waits in both transports, and what the kernel has sent without an acknowledgement."""
        if self._lost is not None or self._secure is None:
            return 0
        waiting = self._secure.get_write_buffer_size() + self._raw.get_write_buffer_size()
        return waiting + unacknowledged(self._socket)

    def secured(self, secure: asyncio.Transport) -> None:
        """The handshake is done. `full` is meant to tell of anything that waits above the TCP transport."""
        self._secure = secure
        secure.set_write_buffer_limits(high=1, low=0)

    def start(self, receiver: Receiver) -> None:
        """See `base.Stream`."""
        self._receiver = receiver
        asyncio.get_running_loop().call_soon(self._catch_up)

    def write(self, buffers: Sequence[Buffer]) -> None:
        """See `base.Stream`. One write is one or more TLS records of at most 16 KiB."""
        if self._secure is not None and self._lost is None:
            self._secure.write(b"".join(buffers))

    def close(self) -> None:
        """See `base.Stream`."""
        if self._secure is not None:
            self._secure.close()

    def abort(self) -> None:
        """See `base.Stream`."""
        if self._secure is not None:
            self._secure.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio's: where to decrypt to."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio's: so much was decrypted."""
        if self._early is None:
            assert self._receiver is not None
            self._receiver.data_received(self._scratch[:nbytes])
            return
        self._early += self._scratch[:nbytes]
        if len(self._early) > MAX_EARLY_BYTES and self._secure is not None:
            self._secure.pause_reading()

    def pause_writing(self) -> None:
        """asyncio's."""
        self.full = True

    def resume_writing(self) -> None:
        """asyncio's."""
        self.full = False
        if self._receiver is not None and self._early is None:
            self._receiver.writing_resumed()

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio's: the end."""
        self._lost = "the connection was closed" if error is None else _reason(error)
        self._secure = None  # with its buffers of 256 KiB, which would wait for the garbage collector
        if self._receiver is not None and self._early is None:
            self._receiver.connection_lost(self._lost)

    def _catch_up(self) -> None:
        """Hand over what came before there was a receiver."""
        assert self._receiver is not None
        early, self._early = self._early, None
        if early:
            self._receiver.data_received(memoryview(early))
        if self._lost is not None:
            self._receiver.connection_lost(self._lost)
        elif self._secure is not None and not self._secure.is_reading():
            self._secure.resume_reading()

    def __repr__(self) -> str:
        return f"TlsStream({self.remote}, full={self.full}, lost={self._lost!r})"


class _Unread(asyncio.Protocol):
    """A TCP connection before TLS: nothing is read from it, so that no byte of the handshake is lost."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()


def within(config: ChannelConfig, files: int) -> ChannelConfig:
    """Strangers' unfinished handshakes take half of the files that are left, so that whoever proves a key finds some."""
    return replace(config, max_handshakes=min(config.max_handshakes, max(LEAST_HANDSHAKES, files // 2)))


def _reason(error: Exception) -> str:
    """What went wrong, for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not issued as peers' are ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        # asyncio says "Connect call failed" and the address, whatever the reason
        if error.errno is not None and error.strerror.startswith("Connect call failed"):
            return os.strerror(error.errno)
        return error.strerror
    return str(error) or type(error).__name__


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortInUse, UsageFault."""
    dual = host in ("", "::") and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=dual, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"another program listens on port {port}: choose another with --port") from error
        raise UsageFault(f"cannot listen on {host or 'any address'}, port {port}: {_reason(error)}") from error
