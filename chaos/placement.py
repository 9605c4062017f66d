"""Two hundred workers of very different sizes place and move themselves, in virtual time, from any start.

Each minute every worker considers moving, from what it has heard: speeds that were measured, with an error. Who wants to
move claims it; of claims on the same layers one goes. Told is the slowest point beside the best possible one, how long it
took, and how often workers still move once the swarm has settled.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from swarm.routing.balance import Claim, Offer, best_possible, best_span, drawn, move, offered, slowest
from swarm.routing.placement import fitting_spans
from swarm.span import LayerSpan

LAYERS = 64
QUIET_MINUTES = 10  # without a claim: it has settled
MOST_MINUTES = 12 * 60  # that it may take
AFTER_MINUTES = 60  # looked at once it has settled
ERROR = 0.05  # of a measured speed, one standard deviation
SMALLEST, LARGEST = 0.02, 0.6  # of a model's layers, that a worker's memory holds
SLOW, FAST = 20.0, 4000.0  # layers × rows a second
NEAR = 0.8  # of the best possible slowest point, that is promised
STARTS = ("arrivals", "random", "one place", "halves")


@dataclass(frozen=True, slots=True)
class Placed:
    """How it went from one start."""

    start: str
    workers: int
    first: float  # the slowest point in the beginning, as a share of the best possible
    last: float  # and in the end
    minutes: int  # until nobody wanted to move any more
    settled: bool
    moves: int  # until then
    restless: float  # moves per worker and hour after that, with speeds measured anew every minute
    holes_opened: int

    @property
    def holds(self) -> bool:
        """What is promised: it settles, near the best possible, and no move leaves a layer to nobody."""
        return self.settled and self.last >= NEAR and not self.holes_opened


def workers(count: int, seed: int) -> list[Offer]:
    """Memory and speed drawn log-uniformly, apart from each other; one in four has a link that carries less than it computes."""
    dice = Random(seed)
    sizes: list[Offer] = []
    for _ in range(count):
        layers = max(1, round(LAYERS * SMALLEST * (LARGEST / SMALLEST) ** dice.random()))
        speed = SLOW * (FAST / SLOW) ** dice.random()
        link = speed / layers * dice.uniform(0.5, 1.0) if dice.random() < 0.25 else float("inf")
        sizes.append(Offer(tuple(fitting_spans([1] * LAYERS, layers)), speed, link))
    return sizes


def place(start: str, count: int = 200, seed: int = 1) -> Placed:
    """From this start until nobody wants to move, and then an hour more."""
    offers, dice = workers(count, seed), Random(seed + 1)
    spans = _begin(start, offers, dice)
    best = best_possible(offers, LAYERS)
    first = slowest(_rates(offers, spans), [1.0] * LAYERS) / best
    moves = minute = quiet = opened = 0
    while quiet < QUIET_MINUTES and minute < MOST_MINUTES:
        made, lost = _turn(offers, offers, spans, minute)
        moves, opened, minute = moves + made, opened + lost, minute + 1
        quiet = 0 if made else quiet + 1
    restless = 0
    for later in range(minute, minute + AFTER_MINUTES):
        measured = [Offer(each.spans, each.speed * max(0.5, dice.gauss(1, ERROR)), each.link) for each in offers]
        made, lost = _turn(offers, measured, spans, later)
        restless, opened = restless + made, opened + lost
    return Placed(
        start,
        count,
        first,
        slowest(_rates(offers, spans), [1.0] * LAYERS) / best,
        minute - quiet,
        quiet == QUIET_MINUTES,
        moves,
        restless / count / (AFTER_MINUTES / 60),
        opened,
    )


def table(found: list[Placed]) -> str:
    """A page of Markdown's table."""
    rows = [
        "| start | slowest point, of the best possible | minutes | moves | then, per worker and hour |",
        "|---|---|---|---|---|",
    ]
    rows += [
        f"| {one.start} | {one.first:.0%} → {one.last:.0%} | {one.minutes} | {one.moves} | {one.restless:.3f} |"
        for one in found
    ]
    return "\n".join(rows)


def _begin(start: str, offers: list[Offer], dice: Random) -> list[LayerSpan]:
    if start == "one place":
        return [offer.spans[0] for offer in offers]
    if start == "random":
        return [dice.choice(offer.spans) for offer in offers]
    if start == "halves":  # everybody in the first or the last part, few between
        return [dice.choice((offer.spans[0], offer.spans[-1])) for offer in offers]
    spans: list[LayerSpan] = []
    for offer in offers:
        rest = offered(((span, each.rate(span)) for each, span in zip(offers, spans, strict=False)), LAYERS)
        spans.append(best_span(offer, rest, [1.0] * LAYERS)[0])
    return spans


def _turn(offers: list[Offer], heard: list[Offer], spans: list[LayerSpan], minute: int) -> tuple[int, int]:
    """Everybody considers, some go. How many went, and how many layers were left to nobody by that."""
    rates = _rates(heard, spans)
    claims = []
    for number, (offer, span) in enumerate(zip(heard, spans, strict=True)):
        there = move(offer, span, rates, [1.0] * LAYERS)
        if there is not None:
            claims.append(Claim(number.to_bytes(32, "big"), span, there))
    going = [claim for claim in claims if drawn(claim, claims, minute)]
    before = _rates(offers, spans)
    for claim in going:
        spans[int.from_bytes(claim.peer_id, "big")] = claim.new
    after = _rates(offers, spans)
    return len(going), sum(1 for old, new in zip(before, after, strict=True) if old and not new)


def _rates(offers: list[Offer], spans: list[LayerSpan]) -> list[float]:
    return offered(((span, offer.rate(span)) for offer, span in zip(offers, spans, strict=True)), LAYERS)
