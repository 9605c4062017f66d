"""What a network gives to channels: authenticated streams of bytes, whoever carries them (TLS, or memory in tests).

Callbacks instead of awaits, because a decode row crosses here twice per hop and token. Knows nothing of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from swarm.identity import PeerId
from swarm.records import Address

Buffer = bytes | bytearray | memoryview


class Receiver(Protocol):
    """Who listens to a stream. Calls come from the event loop, never from inside a call to the stream."""

    def data_received(self, data: memoryview) -> None:
        """Bytes came; the view is valid during this call only."""

    def writing_resumed(self) -> None:
        """The stream is not `full` any more."""

    def connection_lost(self, reason: str) -> None:
        """The last call: the stream ended, by whichever side; `reason` is for a person."""


class Stream(Protocol):
    """One connection to a peer that has proved its key."""

    peer_id: PeerId
    host: str  # the peer's address as we see it, normalised
    remote: str  # host and port, for messages

    @property
    def full(self) -> bool:
        """Whether what was written waits on this machine; writing more now would only lengthen that queue."""

    @property
    def unsent(self) -> int:
        """Bytes written that the peer's machine has not acknowledged, as far as this one can tell."""

    def start(self, receiver: Receiver) -> None:
        """Deliver to `receiver` from now on, beginning with what has come already."""

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Send these bytes in order. They are copied or sent before this returns."""

    def close(self) -> None:
        """Send what was written, then end the connection."""

    def abort(self) -> None:
        """End the connection at once."""


class Listener(Protocol):
    """An open port."""

    port: int

    async def aclose(self) -> None:
        """Take no more streams. Those there are stay."""


class Network(Protocol):
    """Makes streams."""

    async def connect(self, address: Address, expect: PeerId, reached: Callable[[], None] = lambda: None) -> Stream:
        """A stream to the peer `expect` at `address.data`. Waits without a deadline. Raises PeerLost.

        `reached` is called when the machine there has answered, after one round trip, before anybody proves a key.
        """

    async def listen(self, host: str, port: int, on_stream: Callable[[Stream], None]) -> Listener:
        """Port 0 takes any. Raises PortInUse."""
