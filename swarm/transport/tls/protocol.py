"""asyncio's TLS over a TCP connection, without the 256 KiB of buffer that it gives to every connection.

What is received is decrypted before the next bytes are read, so one buffer serves all. That is what makes a thousand
connections affordable, and half-open ones harmless. Knows nothing of keys or frames.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable

SHUTDOWN_SECONDS = 1.0


class TlsLayer(SSLProtocol):
    """`await handshake(raw)` gives the transport to write to; what is decrypted goes to `receiver`.

    `shared` takes ciphertext of every connection; `early` hears of bytes that come before the handshake's end.
    """

    max_size = 0  # of asyncio's own buffer

    def __init__(
        self,
        receiver: asyncio.BufferedProtocol,
        context: ssl.SSLContext,
        shared: memoryview,
        seconds: float,
        *,
        server_side: bool,
        early: Callable[[int], None] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._shaken: asyncio.Future[None] = loop.create_future()
        super().__init__(
            loop,
            receiver,
            context,
            self._shaken,
            server_side,
            call_connection_made=False,
            ssl_handshake_timeout=seconds,  # type: ignore[arg-type]  # typeshed says int; asyncio takes any number
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self._ssl_buffer_view = shared
        self._early = early

    async def handshake(self, raw: asyncio.Transport, first: bytes = b"") -> asyncio.Transport | None:
        """None when the connection ended meanwhile. `first` has been read already. Raises OSError."""
        raw.set_protocol(self)
        self.connection_made(raw)
        if first:
            self._ssl_buffer_view[: len(first)] = first
            super().buffer_updated(len(first))
        if not raw.is_closing():
            raw.resume_reading()
        try:
            await self._shaken
        except BaseException:  # also when the caller gives up waiting: nobody else knows of the connection
            raw.close()
            raise
        return self._app_transport

    def get_buffer(self, n: int) -> memoryview:
        """asyncio's: where to receive to."""
        return self._ssl_buffer_view

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio's: so much was received."""
        if self._early is not None and not self._shaken.done():
            self._early(nbytes)
            if self._transport is None or self._transport.is_closing():
                return  # it was too much
        super().buffer_updated(nbytes)
