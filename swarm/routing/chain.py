"""`Hop` and `Chain`: which peer computes which layers of one model. Knows nothing of how a chain is found or used."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.identity import PeerId
from swarm.records import Address, ModelRef
from swarm.span import LayerSpan, missing_layers, name_layers


@dataclass(frozen=True, slots=True)
class Hop:
    """One worker's part of a chain."""

    peer_id: PeerId
    addresses: tuple[Address, ...]  # preferred first
    span: LayerSpan  # the layers it computes here: all or a part of those it holds
    numerics: str  # its numerics class

    def __str__(self) -> str:
        return f"{self.peer_id.short}:{self.span}"


@dataclass(frozen=True, slots=True)
class Chain:
    """Hops that together compute every layer of `span`, each once and in order. Anything else raises ValueError."""

    model: ModelRef
    span: LayerSpan
    hops: tuple[Hop, ...]

    def __post_init__(self) -> None:
        missing = missing_layers((hop.span for hop in self.hops), self.span)
        if missing:
            raise ValueError(f"a chain over {name_layers([self.span])} without {name_layers(missing)}")
        reached = self.span.start
        for hop in self.hops:
            if hop.span.start != reached:
                raise ValueError(f"hop {hop} of a chain does not begin at layer {reached}")
            reached = hop.span.stop
        if reached != self.span.stop:
            raise ValueError(f"a chain over {name_layers([self.span])} goes on to layer {reached - 1}")

    @property
    def numerics(self) -> str | None:
        """The numerics class that all hops share; None if they differ."""
        classes = {hop.numerics for hop in self.hops}
        return classes.pop() if len(classes) == 1 else None

    def __str__(self) -> str:
        return " > ".join(map(str, self.hops))
