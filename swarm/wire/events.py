"""What a `Connection` reports: one dataclass for each thing that a peer can do."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import PeerFault
from swarm.wire.messages import Goodbye, Hello, Message, Pong, Push


@dataclass(frozen=True, slots=True)
class Greeted:
    """The peer's Hello, of our version: the connection is open."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Asked:
    """The peer wants something; answer on the same stream."""

    stream: int
    message: Message


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to our request of this stream; `ends` tells a reply from a Working."""

    stream: int
    message: Message
    ends: bool


@dataclass(frozen=True, slots=True)
class Pinged:
    """Answer with a Pong at once."""


@dataclass(frozen=True, slots=True)
class Ponged:
    """The answer to our Ping."""

    pong: Pong


@dataclass(frozen=True, slots=True)
class Parting:
    """The peer will leave."""

    goodbye: Goodbye


@dataclass(frozen=True, slots=True)
class Pushed:
    """The peer gave rows, and wants no answer."""

    push: Push


@dataclass(frozen=True, slots=True)
class Violated:
    """The peer broke the rules, or speaks another version. The last event of a connection."""

    fault: PeerFault


Event = Greeted | Asked | Answered | Pinged | Ponged | Parting | Pushed | Violated
