import math

import pytest

from swarm import errors as e
from swarm.identity import PeerId
from swarm.wire.faults import MAX_RETRY_SECONDS, error_of, fault_of, shorten
from swarm.wire.messages import MAX_DETAIL_BYTES, Fault, FaultCode

PEER = PeerId(bytes(32))


@pytest.mark.parametrize(
    ("error", "code", "raised"),
    [
        (e.Overloaded("full", 2.5), FaultCode.OVERLOADED, e.Overloaded),
        (e.Draining("bye"), FaultCode.DRAINING, e.Draining),
        (e.NotAllowed("not you"), FaultCode.NOT_ALLOWED, e.NotAllowed),
        (e.SessionFault("lapsed"), FaultCode.UNKNOWN_SESSION, e.SessionFault),
        (e.WrongModel("other"), FaultCode.WRONG_MODEL, e.PeerFault),
        (e.UsageFault("shape"), FaultCode.BAD_REQUEST, e.PeerFault),
        (e.ProtocolFault("rule"), FaultCode.BAD_REQUEST, e.PeerFault),
        (e.LocalFault("bug"), FaultCode.INTERNAL, e.PeerFault),
    ],
)
def test_an_error_crosses_the_wire(error, code, raised):
    fault = fault_of(error, bytes(16))
    assert fault.code is code
    back = error_of(fault, PEER)
    assert type(back) is raised
    assert str(error) in str(back)
    assert PEER.short in str(back)


def test_retry_after_travels_and_is_capped():
    assert error_of(fault_of(e.Overloaded("full", 2.5)), PEER).retry_after == 2.5
    assert error_of(Fault(None, FaultCode.OVERLOADED, "", 1e9), PEER).retry_after == MAX_RETRY_SECONDS
    assert error_of(Fault(None, FaultCode.OVERLOADED, "", None), PEER).retry_after == math.inf
    assert fault_of(e.Overloaded("never", math.inf)).retry_after is None


def test_a_gap_is_a_session_fault():
    assert isinstance(error_of(Fault(None, FaultCode.GAP, "5 > 3", None), PEER), e.SessionFault)


def test_long_texts_are_cut_between_characters():
    assert shorten("é" * 2000) == "é" * (MAX_DETAIL_BYTES // 2)
    assert len(fault_of(e.LocalFault("x" * 9999)).detail) == MAX_DETAIL_BYTES
    assert shorten("\ud800") == "?"
