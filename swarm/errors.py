"""Every error swarm raises on purpose. A class's docstring says whose fault it is and what its reader can do.

Three families decide what happens next: a `LocalFault` is ours and is never retried or blamed on a peer; a `PeerFault`
makes the session leave that peer; `Overloaded` and `NoChain` are nobody's fault and are waited out.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol


class LayerRange(Sized, Protocol):
    """A range of layers, as far as an error that names some is concerned. `span.LayerSpan` is one."""

    @property
    def start(self) -> int:
        """The first layer."""

    @property
    def stop(self) -> int:
        """One past the last layer."""


class SwarmError(Exception):
    """Something swarm raised on purpose; its text is written for the person who reads it."""

    exit_code = 1  # of the command line


class LocalFault(SwarmError):
    """A bug or a broken state on this machine. Please report it: no peer is to blame."""

    exit_code = 70


class UsageFault(SwarmError):
    """An option, argument or request that cannot be honoured as given; the message names it."""

    exit_code = 2


class PromptTooLong(UsageFault):
    """A prompt that leaves no room for an answer in the model's context, or in any worker's cache. Shorten it: no retry helps."""

    def __init__(self, message: str, tokens: int | None = None, most: int | None = None) -> None:
        super().__init__(message)
        self.tokens, self.most = tokens, most  # of the prompt, and what there is room for


class ModelFault(SwarmError):
    """A model on disk that cannot be used; the message names the file and, where there is one, the tensor."""

    exit_code = 3


class WrongModel(ModelFault):
    """Two peers (or a peer and the files here) hold different models under one name; both digests are named."""


class PortInUse(SwarmError):
    """Another program listens on the port that was asked for; choose another with --port."""

    exit_code = 4


class NoSwarm(SwarmError):
    """None of the bootstrap addresses answered; they are named. Check them, or start one with `swarm bootstrap`."""

    exit_code = 5


class OtherKey(NoSwarm):
    """The bootstraps are of another private swarm, or of none; each is named with what it is. Give the right --swarm-key."""


class NoChain(SwarmError):
    """Some layers are served by nobody that can be reached; they are named. Start a worker that holds them."""

    exit_code = 6

    def __init__(self, message: str, missing: tuple[LayerRange, ...] = ()) -> None:
        super().__init__(message)
        self.missing = missing


class DeadlineExceeded(SwarmError):
    """The caller's deadline passed; the message says what was being waited for."""

    exit_code = 7


class Overloaded(SwarmError):
    """A worker's cache budget or queue is used up. Try another, or wait `retry_after` seconds (infinity: it is of no use)."""

    exit_code = 8

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class NoRoom(SwarmError):
    """No chain holds more rows of this session. An answer ends here, as at the end of the context; waiting changes nothing."""

    exit_code = 8

    def __init__(self, message: str, most: int) -> None:
        super().__init__(message)
        self.most = most  # rows that there is room for


class PeerFault(SwarmError):
    """A peer broke its word: it is gone, silent, or sent what the protocol forbids. Another one can do the work."""

    exit_code = 9


class PeerLost(PeerFault):
    """The connection to a peer ended, or could not be made."""


class PeerStalled(PeerFault):
    """A peer with work of ours sent no byte for longer than its link and load explain."""


class EdgeFault(PeerFault):
    """Rows that one worker was to hand to the next did not get there; the client takes them there itself."""


class ProtocolFault(PeerFault):
    """A peer sent bytes that the protocol forbids; the message says which rule."""


class VersionMismatch(PeerFault):
    """The peer speaks another version of the protocol; both versions are named. Upgrade the older side."""


class SessionFault(PeerFault):
    """The peer answered that it cannot go on with this session (lapsed, unknown, out of step). It is replayed."""


class Gap(SessionFault):
    """The rows leave a gap behind those that the session holds; the peer never attends over rows it has not seen."""


class Draining(PeerFault):
    """The peer is shutting down in good order and takes no new sessions. Nothing is wrong with it."""


class NotAllowed(PeerFault):
    """The peer serves only those that its operator named with --allow. Ask the operator to add your id: `swarm key id`."""


class AuditFault(SwarmError):
    """Peers of one numerics class computed different rows from the same inputs, so at least one of them lies or is broken."""

    exit_code = 10
