"""Who may compute a span a second time: workers of other address blocks, drawn at random. Pure.

At random, because the chain's rule prefers the quickest, and figures that are announced are easily made up: whoever wanted to
confirm a friend's lies would announce the best ones.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from random import Random

from swarm.client.audits.comparison import precision_of, tolerance_of
from swarm.identity import PeerId
from swarm.records import Address, ModelRef, PeerRecord, PeerState, address_block
from swarm.routing.chain import Hop
from swarm.span import LayerSpan, missing_layers

PRIVATE = b"private"  # the one block of all addresses that anybody may give himself


def blocks_of(addresses: Iterable[Address], host: str | None, private: bool) -> frozenset[bytes]:
    """The address blocks of a peer. `host` is where it is connected to, None if it is not: proof, where addresses are claims.

    Private and loopback addresses say nothing of owners and count as one block; with `private` each is its own.
    """
    if host is not None and ipaddress.ip_address(host).is_global:
        return frozenset({address_block(host)})
    return frozenset(_block(address, private) for address in addresses)


def _block(address: Address, private: bool) -> bytes:
    host = ipaddress.ip_address(address.host)
    if host.is_global:
        return address_block(address.host)
    return host.packed + address.data.to_bytes(2, "big") if private else PRIVATE


def eligible(
    records: Iterable[PeerRecord], model: ModelRef, barred: frozenset[PeerId], heard: frozenset[bytes], private: bool
) -> list[PeerRecord]:
    """The workers that may be asked: of this model, serving, not barred, and in none of the blocks that were heard."""
    return [
        record
        for record in records
        if record.state is PeerState.SERVING
        and record.model.digest == model.digest
        and precision_of(record.numerics) == record.precision
        and record.peer_id not in barred
        and not heard & blocks_of(record.addresses, None, private)
    ]


def choose_witnesses(
    records: Sequence[PeerRecord], span: LayerSpan, numerics: str | None, precision: str, random: Random
) -> tuple[tuple[Hop, ...], str] | None:
    """Hops over `span` with their precision: of the class `numerics` if that covers it, else of `precision`, else of another.

    None when nobody covers it whose rows could be compared with such ones.
    """
    others = sorted({record.precision for record in records} - {precision})
    groups = [[record for record in records if record.numerics == numerics and record.precision == precision]]
    groups += [[record for record in records if record.precision == each] for each in (precision, *others)]
    for group in groups:
        if missing_layers((record.span for record in group), span):
            continue
        if group is groups[0] or tolerance_of(precision, group[0].precision) is not None:
            return _drawn(sorted(group, key=lambda record: record.peer_id), span, random), group[0].precision
    return None


def _drawn(records: Sequence[PeerRecord], span: LayerSpan, random: Random) -> tuple[Hop, ...]:
    """Hops drawn from `records`, which cover `span`: one where one can do it all."""
    hops: list[Hop] = []
    reached = span.start
    while reached < span.stop:
        holders = [record for record in records if reached in record.span]
        whole = [record for record in holders if record.span.covers(LayerSpan(reached, span.stop))]
        record = random.choice(whole or holders)
        offer = LayerSpan(reached, min(record.span.stop, span.stop))
        hops.append(Hop(record.peer_id, record.addresses, offer, record.numerics))
        reached = offer.stop
    return tuple(hops)
