"""How much each layer of a model is offered and asked, what a span would add, and when moving to it is worth it.

Pure decisions. What a worker adds to a layer counts for more the less the layer has, so that every move which is worth it
raises one sum that all workers share (the worth of a move is the change of that sum): moves cannot go in circles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarm.span import LayerSpan

MOVE_GAIN = 1.25  # that a move must be worth, in times of what staying is worth
EMPTY_SHARE = 1e-3  # of the mean: a layer with less counts as if it had this, so that a hole has a finite worth
CHOICE_TIE = 1e-9  # relative: worths closer than this are equal, and the longer span is taken


@dataclass(frozen=True, slots=True)
class Offer:
    """What a worker gives to each layer of its span: `speed` in layers × rows a second, `link` in rows a second."""

    spans: tuple[LayerSpan, ...]  # that its memory holds
    speed: float
    link: float = float("inf")  # that its links carry

    def rate(self, span: LayerSpan) -> float:
        """Rows a second that each layer of the span is offered."""
        return min(self.speed / len(span), self.link)


@dataclass(frozen=True, slots=True)
class Claim:
    """A move that is announced before it is made."""

    peer_id: bytes
    old: LayerSpan
    new: LayerSpan

    def touches(self, other: Claim) -> bool:
        """Whether a layer that one leaves or joins is one that the other leaves or joins."""
        return any(
            mine.intersection(theirs) is not None for mine in (self.old, self.new) for theirs in (other.old, other.new)
        )


def offered(holders: Iterable[tuple[LayerSpan, float]], layer_count: int) -> list[float]:
    """Rows a second that each layer has, of workers that hold spans at a rate."""
    rates = [0.0] * layer_count
    for span, rate in holders:
        for layer in range(span.start, min(span.stop, layer_count)):
            rates[layer] += rate
    return rates


def weights(asked: Sequence[float]) -> list[float]:
    """What each layer is asked, as shares of the mean, from half of it (layers that nobody asks now are asked next) to twice
    (what peers claim moves nobody far)."""
    mean = sum(asked) / len(asked)
    return [min(2.0, max(0.5, rate / mean)) for rate in asked] if mean > 0 else [1.0] * len(asked)


def slowest(rates: Sequence[float], asked: Sequence[float]) -> float:
    """The slowest point: rows a second that the whole model does, where layers are asked in these proportions."""
    return min(rate / weight for rate, weight in zip(rates, weights(asked), strict=True))


def worth(
    span: LayerSpan, rate: float, rest: Sequence[float], asked: Sequence[float], mean: float
) -> tuple[int, float]:
    """What a worker of this rate adds to the rest: how many holes it fills, then how much it lifts, thin layers first.

    `asked` are weights, `mean` the rows a second that a layer has on average, the worker counted.
    """
    holes, lift, least = 0, 0.0, EMPTY_SHARE * mean
    for layer in span:
        weight, has = asked[layer], rest[layer]
        holes += not has
        before = mean * weight / max(has, least)
        after = mean * weight / max(has + rate, least)
        before, after = before * before, after * after
        lift += before * before - after * after
    return holes, lift


def best_span(offer: Offer, rest: Sequence[float], asked: Sequence[float]) -> tuple[LayerSpan, tuple[int, float]]:
    """Of the spans that a worker can hold, the one that is worth most, and what it is worth; of equal ones the longer, then
    the first. `rest` is what the layers have without this worker, `asked` what they are asked, in rows a second."""
    asked = weights(asked)
    mean = mean_rate(offer, rest)
    best: tuple[LayerSpan, tuple[int, float]] | None = None
    for span in offer.spans:
        value = worth(span, offer.rate(span), rest, asked, mean)
        if best is None or _better(span, value, *best):
            best = (span, value)
    if best is None:
        raise ValueError("an offer without a span")
    return best


def mean_rate(offer: Offer, rest: Sequence[float]) -> float:
    """Rows a second that a layer has on average, once the worker is added."""
    return (sum(rest) + offer.speed) / len(rest)


def move(offer: Offer, held: LayerSpan, rates: Sequence[float], asked: Sequence[float]) -> LayerSpan | None:
    """Where a worker should move that holds this span, or None if it should stay. `rates` count the worker itself.

    It moves only if that is worth MOVE_GAIN times what staying is, or fills more holes than it would leave; and never away
    from a layer that it alone holds.
    """
    own = offer.rate(held)
    rest = [max(0.0, rate - own) if layer in held else rate for layer, rate in enumerate(rates)]
    # what floating point leaves of a layer that nobody else holds is no rate
    rest = [0.0 if rate < EMPTY_SHARE**2 * own else rate for rate in rest]
    alone = [layer for layer in held if not rest[layer]]
    reachable = tuple(span for span in offer.spans if span != held and all(layer in span for layer in alone))
    if not reachable:
        return None
    holes, lift = worth(held, own, rest, weights(asked), mean_rate(offer, rest))
    span, (filled, lifted) = best_span(Offer(reachable, offer.speed, offer.link), rest, asked)
    return span if filled > holes or (filled == holes and lifted > MOVE_GAIN * lift) else None


def drawn(mine: Claim, claims: Iterable[Claim], turn: int) -> bool:
    """Whether of all claims that touch the same layers this one goes in this turn: one does, whichever the hash of the turn
    and the key puts first, so that all agree without asking and nobody chooses its place."""
    return all(
        _place(mine, turn) < _place(other, turn)
        for other in claims
        if other.peer_id != mine.peer_id and mine.touches(other)
    )


def best_possible(offers: Sequence[Offer], layer_count: int) -> float:
    """No arrangement has a faster slowest point, in rows a second, where all layers are asked alike.

    At a throughput of T a worker is of use for at most T rows a second in each layer of its longest span, and in all for no
    more than its speed; the sum must reach T in every layer.
    """
    longest = [max(map(len, offer.spans)) for offer in offers]
    low, high = 0.0, sum(offer.speed for offer in offers) / layer_count
    for _ in range(100):
        middle = (low + high) / 2
        useful = sum(
            min(offer.speed, most * min(offer.link, middle)) for offer, most in zip(offers, longest, strict=True)
        )
        low, high = (middle, high) if useful >= layer_count * middle else (low, middle)
    return high


def _better(span: LayerSpan, value: tuple[int, float], best: LayerSpan, most: tuple[int, float]) -> bool:
    if value[0] != most[0]:
        return value[0] > most[0]
    if abs(value[1] - most[1]) > CHOICE_TIE * max(abs(value[1]), abs(most[1])):
        return value[1] > most[1]
    return len(span) > len(best)


def _place(claim: Claim, turn: int) -> bytes:
    return hashlib.sha256(turn.to_bytes(8, "big") + claim.peer_id).digest()
