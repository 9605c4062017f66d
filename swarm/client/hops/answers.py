"""Whether what a worker answers can be what it was asked for: all that shows without computing it. Pure."""

from __future__ import annotations

from swarm.client.hops.history import Entry
from swarm.errors import ProtocolFault
from swarm.identity import PeerId
from swarm.wire.messages import Result
from swarm.wire.tensors import is_finite, same_ends


def check_answer(reply: Result, session_id: bytes, step: int, question: Entry, carried: int, peer_id: PeerId) -> None:
    """`question`: rows [count, hidden] that the answer is about. The last `carried` numbers of a row come back as they went.

    Raises ProtocolFault.
    """
    given, made = question.tensor, reply.tensor
    answered = reply.session_id, reply.step, reply.position, reply.rows, made.dtype, made.shape
    if answered != (session_id, step, question.position, question.rows, given.dtype, given.shape):
        raise ProtocolFault(f"peer {peer_id.short} answered another question than it was asked")
    if not is_finite(made):
        raise ProtocolFault(f"peer {peer_id.short} answered with rows that are not finite")
    if not same_ends(given, made, carried):
        raise ProtocolFault(f"peer {peer_id.short} changed what rows only carry")
