"""Errors to Fault messages and back: what a worker raises, and what its peer then raises. Knows nothing of streams."""

from __future__ import annotations

import math

from swarm.errors import (
    Draining,
    Gap,
    NotAllowed,
    Overloaded,
    PeerFault,
    ProtocolFault,
    SessionFault,
    SwarmError,
    UsageFault,
    WrongModel,
)
from swarm.identity import PeerId
from swarm.wire.messages import MAX_DETAIL_BYTES, Fault, FaultCode

MAX_RETRY_SECONDS = 60.0  # however long a peer asks us to wait

# The first row that fits decides; what fits none is INTERNAL.
_CODES: tuple[tuple[type[SwarmError], FaultCode], ...] = (
    (UsageFault, FaultCode.BAD_REQUEST),
    (ProtocolFault, FaultCode.BAD_REQUEST),
    (WrongModel, FaultCode.WRONG_MODEL),
    (Gap, FaultCode.GAP),
    (SessionFault, FaultCode.UNKNOWN_SESSION),
    (Overloaded, FaultCode.OVERLOADED),
    (Draining, FaultCode.DRAINING),
    (NotAllowed, FaultCode.NOT_ALLOWED),
)

_SAID = {
    FaultCode.BAD_REQUEST: "refused our request as malformed",
    FaultCode.WRONG_MODEL: "serves another model, span or precision",
    FaultCode.UNKNOWN_SESSION: "does not know our session",
    FaultCode.GAP: "holds less of our session than we believed",
    FaultCode.OVERLOADED: "is overloaded",
    FaultCode.DRAINING: "is shutting down",
    FaultCode.INTERNAL: "failed on its side",
    FaultCode.NOT_ALLOWED: "does not serve us",
}


def fault_of(error: SwarmError, session_id: bytes | None = None) -> Fault:
    """The reply to a request that ended with `error`."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), FaultCode.INTERNAL)
    waits = isinstance(error, Overloaded) and math.isfinite(error.retry_after)
    retry_after = float(error.retry_after) if isinstance(error, Overloaded) and waits else None
    return Fault(session_id, code, shorten(str(error)), retry_after)


def error_of(fault: Fault, peer: PeerId) -> SwarmError:
    """What our side raises for a Fault reply of `peer`: Overloaded, or some PeerFault. The peer's words are quoted."""
    text = f"peer {peer.short} {_SAID[fault.code]}: {fault.detail}"
    if fault.code is FaultCode.OVERLOADED:
        return Overloaded(text, math.inf if fault.retry_after is None else min(fault.retry_after, MAX_RETRY_SECONDS))
    if fault.code is FaultCode.DRAINING:
        return Draining(text)
    if fault.code is FaultCode.NOT_ALLOWED:
        return NotAllowed(text)
    if fault.code is FaultCode.GAP:
        return Gap(text)
    if fault.code is FaultCode.UNKNOWN_SESSION:
        return SessionFault(text)
    return PeerFault(text)


def shorten(text: str) -> str:
    """At most MAX_DETAIL_BYTES of UTF-8, cut between characters."""
    raw = text.encode("utf-8", "replace")
    return raw[:MAX_DETAIL_BYTES].decode("utf-8", "ignore")
