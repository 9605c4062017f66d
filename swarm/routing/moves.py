"""Moves as workers announce them: where each is bound, which of several goes first, and what nobody would hold then.

A move is claimed before it is made, and the claim counts for CLAIM_SECONDS: whoever dies in the middle is in nobody's way for
longer. Records in, decisions out.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarm.records import PeerRecord, PeerState
from swarm.routing.balance import Claim, drawn
from swarm.routing.finder import newest_records
from swarm.span import LayerSpan

CLAIM_SECONDS = 300.0  # that a claim counts; a move that takes longer goes on, and others may claim the same layers
PRESENT = (PeerState.SERVING, PeerState.LOADING)
TURN_SECONDS = 60.0  # claims of one turn are drawn among each other; those of an earlier turn go first


def destination(record: PeerRecord, now: float) -> LayerSpan | None:
    """The layers that a worker is bound to hold; None if it leaves."""
    moving = record.moving
    return record.span if moving is None or abs(now - moving.since) > CLAIM_SECONDS else moving.to


def claims(records: Iterable[PeerRecord], now: float) -> list[tuple[int, Claim]]:
    """Of workers that move, or wish to: each with its turn."""
    return [
        (turn_of(record.moving.since), Claim(record.peer_id, record.span, to))
        for record in newest_records(records)
        if record.moving is not None
        and record.state is not PeerState.GONE
        and not record.expired(now)
        and (to := destination(record, now)) is not None
        and to == record.moving.to
    ]


def turn_of(since: float) -> int:
    return int(since // TURN_SECONDS)


def unclaimed(mine: Claim, others: Iterable[PeerRecord], now: float) -> bool:
    """Whether nobody else moves from or to layers that this move touches, or has said that it will."""
    return not any(mine.touches(claim) for _, claim in claims(others, now) if claim.peer_id != mine.peer_id)


def goes_first(mine: Claim, since: float, others: Iterable[PeerRecord], now: float) -> bool:
    """Whether of all that have claimed the same layers by now this one goes: all agree on which, without asking."""
    turn, rivals = turn_of(since), claims(others, now)
    earlier = any(mine.touches(claim) for other, claim in rivals if other < turn and claim.peer_id != mine.peer_id)
    return not earlier and drawn(mine, [claim for other, claim in rivals if other == turn], turn)


def left_alone(old: LayerSpan, new: LayerSpan | None, others: Iterable[PeerRecord], now: float) -> tuple[int, ...]:
    """The layers that nobody would serve who stays, if a worker went from `old` to `new`, or left (None)."""
    held: set[int] = set()
    for record in newest_records(others):
        stays = destination(record, now)
        if record.state is PeerState.SERVING and not record.expired(now) and stays is not None:
            held.update(layer for layer in record.span if layer in stays)
    return tuple(layer for layer in old if layer not in held and not (new is not None and layer in new))


def succession(span: LayerSpan, others: Iterable[PeerRecord], layer_count: int, now: float) -> tuple[int, ...]:
    """The layers for which a worker that leaves should wait for a successor: nobody else who stays serves them, the model is of
    use as long as it stays, and there are others who may take them."""
    others = [record for record in newest_records(others) if not record.expired(now)]
    stay = [record for record in others if record.state in PRESENT and destination(record, now) is not None]
    whole = not left_alone(LayerSpan(0, layer_count), span, others, now)
    return left_alone(span, None, others, now) if stay and whole else ()
