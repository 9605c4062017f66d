"""Why workers of a model are in no chain: one line each. Pure; what nobody can see from a record is passed in.

The chain is the one that a new client would take. A worker that could be used and is not was worse where the chain had to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarm.errors import NoChain
from swarm.identity import PeerId
from swarm.records import ModelRef, PeerRecord, PeerState
from swarm.routing.chain import Chain, Hop
from swarm.routing.cost import ASSUMED_ROUND_TRIP, UNMEASURED, Measurement, predicted_seconds
from swarm.routing.finder import find_chain, newest_records
from swarm.span import LayerSpan, held_in_part, missing_layers, name_layers

STATES = {
    PeerState.DRAINING: "draining: it takes no new sessions and will leave",
    PeerState.LOADING: "loading its layers still",
    PeerState.GONE: "gone: it said that it left",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a worker beside its record: reasons in words, empty where there is none."""

    version: str = ""  # of the protocol or of this software, where it differs
    unreachable: str = ""  # which port was tried, how, and what came of it
    banned: str = ""
    avoided: str = ""
    full: str = ""


NOTHING_KNOWN = Known()


@dataclass(frozen=True, slots=True)
class Use:
    """What becomes of one worker."""

    record: PeerRecord
    layers: LayerSpan | None  # that it computes in the chain
    why: str  # it computes none; empty where it does


@dataclass(frozen=True, slots=True)
class Uses:
    """The chain of a model, if there is one, and what becomes of each of its workers, in the order of their layers."""

    model: ModelRef
    chain: Chain | None
    missing: tuple[LayerSpan, ...]
    workers: tuple[Use, ...]


def uses(
    records: Iterable[PeerRecord],
    model: ModelRef,
    known: Mapping[PeerId, Known],
    measurements: Mapping[PeerId, Measurement],
    now: float,
    *,
    precision: str | None = None,
    prefer_numerics: str | None = None,
    exact: bool = False,
    bonds: Sequence[LayerSpan] = (),
) -> Uses:
    """Of all workers that serve the model, or other files under its name. Options as of `find_chain`."""
    of_name = [
        each for each in newest_records(records) if model.name == each.model.name or model.digest == each.model.digest
    ]
    refusals = {
        each.peer_id: _refusal(each, model, known.get(each.peer_id, NOTHING_KNOWN), now, bonds) for each in of_name
    }
    usable = [each for each in of_name if not refusals[each.peer_id]]
    whole = LayerSpan(0, model.layer_count)
    chain, missing = None, tuple[LayerSpan, ...]()
    try:
        chain = find_chain(
            usable,
            model,
            whole,
            measurements,
            now,
            precision=precision,
            prefer_numerics=prefer_numerics,
            exact=exact,
            bonds=bonds,
        )
    except NoChain as hole:
        missing = tuple(LayerSpan(each.start, each.stop) for each in hole.missing)
    parts = {hop.peer_id: hop.span for hop in chain.hops} if chain else {}
    by_id = {each.peer_id: each for each in usable}

    def why(record: PeerRecord) -> str:
        refusal = refusals[record.peer_id]
        if refusal or record.peer_id in parts:
            return refusal
        if precision is not None and record.precision != precision:
            return f"of another precision: it computes in {record.precision}, {precision} was asked for"
        onward = _no_way_on(record, usable, whole)
        if chain is None:
            return onward or "in a chain of several numerics classes only, and it has to be exact"
        return _passed_over(record, chain, by_id, measurements, onward)

    ordered = sorted(of_name, key=lambda each: (each.span, each.peer_id))
    return Uses(model, chain, missing, tuple(Use(each, parts.get(each.peer_id), why(each)) for each in ordered))


def _refusal(record: PeerRecord, model: ModelRef, known: Known, now: float, bonds: Sequence[LayerSpan]) -> str:
    """Why nobody could use it, whoever else there is; empty if one could."""
    if record.model.digest != model.digest or record.model.layer_count != model.layer_count:
        theirs, ours = record.model.digest.hex()[:12], model.digest.hex()[:12]
        return f"of another model by this name: its files have digest {theirs}, not {ours}"
    bond = held_in_part(record.span, bonds)
    if bond is not None:
        return f"of no use without all of layers {bond}: they stand together"
    if record.expired(now):
        return f"silent: its record expired {now - record.expires_at:.0f} s ago"
    if known.banned:
        return f"banned: {known.banned}"
    if record.state is not PeerState.SERVING:
        return STATES[record.state]
    if known.version:
        return f"of another version: {known.version}"
    if known.unreachable:
        return f"unreachable: {known.unreachable}"
    if known.avoided:
        return f"avoided: {known.avoided}"
    return f"full: {known.full}" if known.full else ""


def _no_way_on(record: PeerRecord, usable: Iterable[PeerRecord], whole: LayerSpan) -> str:
    """Which layers nobody joins to its own; empty where a chain could have it."""
    missing = missing_layers((each.span for each in usable if each.precision == record.precision), whole)
    if not missing:
        return ""
    verb = "are" if sum(map(len, missing)) > 1 else "is"
    return f"no way on: {name_layers(missing)} in {record.precision} {verb} served by nobody that can be used"


def _passed_over(
    record: PeerRecord,
    chain: Chain,
    by_id: Mapping[PeerId, PeerRecord],
    measurements: Mapping[PeerId, Measurement],
    onward: str,
) -> str:
    """There is a chain, and it goes without this worker, which could be used."""
    first = by_id[chain.hops[0].peer_id]
    if record.precision != first.precision:
        other = f"of another precision: it computes in {record.precision}, the chain in {first.precision}"
        return f"{other}; {onward}" if onward else other
    if chain.numerics is not None and record.numerics != chain.numerics:
        return f"of another numerics class: {record.numerics or 'none'}, the chain is of {chain.numerics}"

    def cost(each: PeerRecord, part: LayerSpan) -> float:
        return predicted_seconds(each, part, measurements.get(each.peer_id, UNMEASURED)) / len(part)

    entered = next((hop for hop in chain.hops if hop.span.start in record.span), None)
    if entered is None:
        around = next(hop for hop in chain.hops if record.span.start in hop.span)
        return f"not needed: peer {around.peer_id.short} computes layers {around.span} in one go, and its own begin among them"
    mine = cost(record, LayerSpan(entered.span.start, record.span.stop))
    theirs = cost(by_id[entered.peer_id], entered.span)
    if mine <= theirs:
        return f"no quicker than peer {entered.peer_id.short}, which computes layers {entered.span}"
    return _slower(record, entered, mine, theirs, lambda peer: measurements.get(peer, UNMEASURED).round_trip)


def _slower(
    record: PeerRecord, entered: Hop, mine: float, theirs: float, round_trip: Callable[[PeerId], float | None]
) -> str:
    def trip(peer: PeerId) -> str:
        measured = round_trip(peer)
        return (
            f"{measured * 1e3:.1f} ms"
            if measured is not None
            else f"unmeasured, taken for {ASSUMED_ROUND_TRIP * 1e3:.0f} ms"
        )

    return (
        f"slower: {mine * 1e3:.2f} ms a token and layer from layer {entered.span.start} on, peer {entered.peer_id.short} "
        f"{theirs * 1e3:.2f} ms (round trip {trip(record.peer_id)} against {trip(entered.peer_id)})"
    )
