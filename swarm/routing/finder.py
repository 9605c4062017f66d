"""From records, measurements and the time to a chain. Knows nothing of where they come from.

The rule is greedy: at each layer, of the workers that hold it, take the one with the lowest predicted time per layer over
all that it offers from there on. Round trip and load are part of that time, so a long offer beats a short one. As a span
may be entered in its middle, a chain is found whenever every layer is held by somebody. It sees no further than the next hop:
where its chain is predicted to take 1.15 times as long as the shortest (`shortest`), that is taken instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from swarm.errors import NoChain, UsageFault
from swarm.identity import PeerId
from swarm.records import ModelRef, PeerRecord, PeerState
from swarm.routing.chain import Chain, Hop
from swarm.routing.cost import UNMEASURED, Measurement, Part, Prices
from swarm.routing.limits import NO_LIMITS, Limits
from swarm.routing.shortest import shortest
from swarm.span import LayerSpan, held_in_part, missing_layers, name_layers

Measurements = Mapping[PeerId, Measurement]
Key = TypeVar("Key", str, tuple[str, str])
MAX_NAMED = 8  # peers that a message names
SHORT_DIGITS = 8  # of a peer id that a message names
GREEDY_FACTOR = 1.15  # times the shortest chain's time, beyond which the greedy rule's is not taken
MAX_STARTED = 3  # workers that a message says how to start
PORTABLE = "portable-"  # how numerics classes begin whose bits do not depend on the machine


def find_chain(
    records: Iterable[PeerRecord],
    model: ModelRef,
    span: LayerSpan,
    measurements: Measurements,
    now: float,
    *,
    precision: str | None = None,
    avoid: frozenset[PeerId] = frozenset(),
    banned: frozenset[PeerId] = frozenset(),
    prefer_numerics: str | None = None,
    exact: bool = False,
    allowed: Sequence[PeerId] | None = None,
    bonds: Sequence[LayerSpan] = (),
    prices: Prices | None = None,
    least: bool = False,
    limits: Limits = NO_LIMITS,
) -> Chain:
    """A chain over `span` in one precision, and in one numerics class if any class covers it.

    `prefer_numerics` is taken if it covers, else a portable class, whose bits every CPU has, else the class whose chain is
    predicted fastest, else the fastest chain of mixed classes; if it has to be `exact`, none of mixed classes, and where a
    class is preferred no other. Ties fall to the lower peer id. Peers in `avoid` or `banned`, and if `allowed` is given those
    not in it, are never used, nor those that `limits` refuse, nor those that announce a part of a bond: hops end where
    announced spans do, so that no hop cuts one either. Raises NoChain, naming the layers that are missing and what became
    of the workers that hold some of them.

    `prices` say what hops cost, by default the measurements and that rows go by the client. With `least` each class's chain is
    the shortest there is; else the greedy rule's, where that takes little longer.
    """
    prices = prices or Prices(measurements)
    only = None if allowed is None else frozenset(allowed)
    sieve = _Sieve(model, now, precision, avoid, banned, only, tuple(bonds), limits, measurements)
    newest = newest_records(records)
    usable = [record for record in newest if sieve.refusal(record) is None and record.span.intersection(span)]

    by_precision = _grouped(usable, lambda record: record.precision)
    by_class = _grouped(usable, lambda record: (record.precision, record.numerics))
    preferred = [group for (_, numerics), group in by_class if numerics == prefer_numerics]
    portable = [group for (_, numerics), group in by_class if numerics.startswith(PORTABLE)]
    wishes = [preferred, portable, [group for _, group in by_class], [group for _, group in by_precision]]
    if exact:
        wishes = wishes[:-1] if prefer_numerics is None else wishes[:1]
    for groups in wishes:
        search = _shortest if least else _nearly
        chains = [search(group, model, span, prices, bonds) for group in groups if _missing(group, span) == ()]
        if chains:
            return min(chains, key=lambda found: found.seconds).chain

    holes = [_missing(group, span) for _, group in by_precision] or [(span,)]
    missing = min(holes, key=lambda hole: sum(map(len, hole)))
    if exact and not missing:
        lacking = {numerics: _missing(group, span) for (_, numerics), group in by_class}
        fewest = min(lacking.values(), key=lambda hole: sum(map(len, hole)))
        missing = fewest if prefer_numerics is None else lacking.get(prefer_numerics, (span,))
        raise NoChain(inexact(usable, model, span, prefer_numerics), missing)
    raise NoChain(_explanation(missing, newest, sieve), missing)


def newest_records(records: Iterable[PeerRecord]) -> list[PeerRecord]:
    """Of each peer its latest announcement, in the order of peer ids."""
    newest: dict[PeerId, PeerRecord] = {}
    for record in records:
        known = newest.get(record.peer_id)
        if known is None or record.sequence > known.sequence:
            newest[record.peer_id] = record
    return [newest[peer_id] for peer_id in sorted(newest)]


def fixed_chain(
    records: Iterable[PeerRecord],
    model: ModelRef,
    peers: Sequence[PeerId],
    now: float | None = None,
    banned: frozenset[PeerId] = frozenset(),
    bonds: Sequence[LayerSpan] = (),
) -> Chain:
    """The chain over the whole model that goes through `peers` in this order: each goes on where the one before it ended.

    Expiry is looked at if `now` is given. Raises UsageFault naming the peer that does not fit, and why.
    """
    sieve = _Sieve(model, float("-inf") if now is None else now, None, frozenset(), banned, None, tuple(bonds))
    known = {record.peer_id: record for record in newest_records(records)}
    hops: list[Hop] = []
    reached = 0
    for peer_id in peers:
        record = known.get(peer_id)
        if record is None:
            raise UsageFault(f"peer {peer_id.short} of the chain announces no layers of {model}")
        refusal = sieve.refusal(record)
        if refusal is not None:
            raise UsageFault(f"peer {peer_id.short} cannot be in the chain: its worker is {refusal}")
        first = known[hops[0].peer_id] if hops else record
        if record.precision != first.precision:
            raise UsageFault(
                f"peer {peer_id.short} computes in {record.precision}, but {first.peer_id.short} in {first.precision}: "
                "a chain has one precision"
            )
        if reached not in record.span:
            raise UsageFault(_misfit(record, reached, model))
        hops.append(Hop(peer_id, record.addresses, LayerSpan(reached, record.span.stop), record.numerics))
        reached = record.span.stop
    if reached < model.layer_count:
        rest = name_layers([LayerSpan(reached, model.layer_count)])
        raise UsageFault(f"the chain ends before {rest} of {model}: name more peers")
    return Chain(model, LayerSpan(0, model.layer_count), tuple(hops))


def match_peer(text: str, records: Iterable[PeerRecord]) -> PeerId:
    """The peer whose id begins with these hex digits. Raises UsageFault if none or several do."""
    digits = text.strip().lower()
    if not digits or len(digits) > 64 or not set(digits) <= set("0123456789abcdef"):
        raise UsageFault(f"'{text}' is no peer id: write the hex digits that it begins with, such as 3f9a01bc")
    known = sorted({record.peer_id for record in records})
    found = [peer_id for peer_id in known if peer_id.hex().startswith(digits)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageFault(f"several peer ids begin with {digits}: {_named(found, 16)}; write more digits")
    raise UsageFault(f"no worker's peer id begins with {digits}; known: {_named(known, 8) if known else 'none'}")


def coverage(
    records: Iterable[PeerRecord],
    layer_count: int,
    now: float | None = None,
    states: Sequence[PeerState] = (PeerState.SERVING,),
) -> list[int]:
    """How many workers hold each layer: those that serve, or are in one of the states. Expiry is looked at if `now` is given;
    the model is the caller's choice."""
    replicas = [0] * layer_count
    for record in newest_records(records):
        if record.state in states and not (now is not None and record.expired(now)):
            for layer in range(record.span.start, min(record.span.stop, layer_count)):
                replicas[layer] += 1
    return replicas


@dataclass(frozen=True, slots=True)
class _Sieve:
    """Which workers may be used for one chain."""

    model: ModelRef
    now: float
    precision: str | None
    avoid: frozenset[PeerId]
    banned: frozenset[PeerId]
    allowed: frozenset[PeerId] | None
    bonds: tuple[LayerSpan, ...]  # layers that stand together
    limits: Limits = NO_LIMITS
    measurements: Measurements = field(default_factory=dict)

    def refusal(self, record: PeerRecord) -> str | None:
        """Why this worker may not be used, in words that end "1 is …"; None if it may."""
        if record.model.digest != self.model.digest or record.model.layer_count != self.model.layer_count:
            return "of another model"
        bond = held_in_part(record.span, self.bonds)
        if bond is not None:
            return f"of no use without all of layers {bond}"
        if record.expired(self.now):
            return "no longer announced"
        if record.state is PeerState.GONE:
            return "gone"
        if record.state is not PeerState.SERVING:
            return "shutting down"
        if self.precision is not None and record.precision != self.precision:
            return f"not {self.precision}"
        if self.allowed is not None and record.peer_id not in self.allowed:
            return "not among the peers asked for"
        if record.peer_id in self.banned:
            return "banned for having lied (`swarm peers bans`)"
        if record.peer_id in self.avoid:
            return "avoided after a failure"
        return self.limits.refusal(record, self.measurements.get(record.peer_id, UNMEASURED))


@dataclass(frozen=True, slots=True)
class _Found:
    chain: Chain
    seconds: float  # predicted, for one decode row


def _nearly(
    records: Sequence[PeerRecord], model: ModelRef, span: LayerSpan, prices: Prices, bonds: Sequence[LayerSpan]
) -> _Found:
    """The greedy rule's chain, unless looking ahead finds one that is much shorter."""
    greedy, least = (search(records, model, span, prices, bonds) for search in (_greedy, _shortest))
    return least if greedy.seconds > GREEDY_FACTOR * least.seconds else greedy


def _greedy(
    records: Sequence[PeerRecord], model: ModelRef, span: LayerSpan, prices: Prices, bonds: Sequence[LayerSpan]
) -> _Found:
    """The chain by the greedy rule over `records`, which cover `span` and are in the order of peer ids."""
    parts: list[Part] = []
    while (reached := parts[-1][1].stop if parts else span.start) < span.stop:
        last = parts[-1][0] if parts else None
        best: tuple[float, Part] | None = None
        for record in records:
            if reached not in record.span:
                continue
            offer = LayerSpan(reached, min(record.span.stop, span.stop))
            seconds = prices.joining(last, record) + prices.waiting(record) + prices.layer_seconds(record) * len(offer)
            if best is None or seconds / len(offer) < best[0]:
                best = seconds / len(offer), (record, offer)
        assert best is not None, "the caller has checked that every layer is held"
        parts.append(best[1])
    return _found(model, span, parts, prices)


def _shortest(
    records: Sequence[PeerRecord], model: ModelRef, span: LayerSpan, prices: Prices, bonds: Sequence[LayerSpan]
) -> _Found:
    return _found(model, span, shortest(records, span, prices, bonds)[0], prices)


def _found(model: ModelRef, span: LayerSpan, parts: Sequence[Part], prices: Prices) -> _Found:
    hops = [Hop(record.peer_id, record.addresses, part, record.numerics) for record, part in parts]
    return _Found(Chain(model, span, tuple(hops)), prices.of(parts))


def _missing(records: Iterable[PeerRecord], span: LayerSpan) -> tuple[LayerSpan, ...]:
    return missing_layers((record.span for record in records), span)


def _grouped(records: Iterable[PeerRecord], key: Callable[[PeerRecord], Key]) -> list[tuple[Key, list[PeerRecord]]]:
    groups: dict[Key, list[PeerRecord]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return sorted(groups.items(), key=lambda item: item[0])


def _explanation(missing: Sequence[LayerSpan], newest: Iterable[PeerRecord], sieve: _Sieve) -> str:
    """What is missing, why the workers that hold it do not count, and what helps."""
    reasons = Counter(
        sieve.refusal(record) or "of a precision that does not cover the rest"
        for record in newest
        if any(record.span.intersection(hole) for hole in missing)
        and (record.model.name == sieve.model.name or record.model.digest == sieve.model.digest)
    )
    verb = "are" if len(missing) > 1 or len(missing[0]) > 1 else "is"
    text = f"{name_layers(missing)} of {sieve.model} {verb} served by nobody that can be used"
    if reasons:
        counts = "; ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        text += f" (workers that hold some of them: {counts})"
    starts = " and ".join(
        f"`swarm worker --model {sieve.model.name} --layers {hole}`" for hole in missing[:MAX_STARTED]
    )
    return f"{text}. Start {starts}{' and so on' if len(missing) > MAX_STARTED else ''}, or wait longer with --timeout"


def inexact(records: Iterable[PeerRecord], model: ModelRef, span: LayerSpan, numerics: str | None) -> str:
    """Why no chain of these is exact: who serves what, by class."""
    by_class = _grouped(records, lambda record: record.numerics)
    served = "; ".join(
        f"{name or 'a class without a name'} has {name_layers(sorted({record.span for record in group}))} "
        f"({_named(sorted(record.peer_id for record in group), SHORT_DIGITS)})"
        for name, group in by_class[:MAX_NAMED]
    )
    wanted = "no numerics class" if numerics is None else f"nobody in the numerics class {numerics}"
    return (
        f"{wanted} serves all of {name_layers([span])} of {model}, and the answer has to be exact (--exact): {served}"
    )


def _misfit(record: PeerRecord, reached: int, model: ModelRef) -> str:
    holds = f"peer {record.peer_id.short} holds {name_layers([record.span])}"
    if reached == model.layer_count:
        return f"{holds}, but the chain is complete before it"
    if record.span.start > reached:
        return f"{holds}, but {name_layers([LayerSpan(reached, record.span.start)])} before them are held by no peer named so far"
    return f"{holds}, but the peers before it already reach layer {reached - 1}"


def _named(peers: Sequence[PeerId], digits: int) -> str:
    shown = ", ".join(peer_id.hex()[:digits] for peer_id in peers[:MAX_NAMED])
    return shown + (f" and {len(peers) - MAX_NAMED} more" if len(peers) > MAX_NAMED else "")
