"""A worker that leaves and alone serves some layers waits for a successor, as long as it said, and serves meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from swarm.errors import SwarmError
from swarm.records import ModelRef, Moving, PeerRecord
from swarm.routing.moves import succession
from swarm.span import LayerSpan, name_layers

LOOK_SECONDS = 1.0  # between two looks for a successor


class Holder(Protocol):
    """Who leaves, see `holding`."""

    @property
    def span(self) -> LayerSpan: ...

    @property
    def model(self) -> ModelRef: ...

    async def others(self) -> list[PeerRecord]: ...

    async def claim(self, moving: Moving | None) -> bool: ...


async def await_successor(
    holder: Holder,
    seconds: float,
    now: Callable[[], float],
    progress: Callable[[str], None],
    wall: Callable[[], float] = time.time,
) -> None:
    """Returns when others serve the layers, when nobody is there any more who could, or after so many seconds."""
    if seconds <= 0 or not (waits := await _waits_for(holder, now)):
        return
    await holder.claim(Moving(now(), None))
    until = time.strftime("%H:%M:%S", time.localtime(wall() + seconds))
    layers = name_layers(_spans(waits))
    progress(
        f"stopping: nobody else holds {layers}, so they are served until another worker does, or until {until} "
        f"({seconds:g} s; a second signal leaves at once)"
    )
    try:
        async with asyncio.timeout(seconds):
            while waits:
                await asyncio.sleep(LOOK_SECONDS)
                waits = await _waits_for(holder, now)
    except TimeoutError:
        progress(f"no other worker has taken {layers} within {seconds:g} s")


async def _waits_for(holder: Holder, now: Callable[[], float]) -> tuple[int, ...]:
    try:
        others = await holder.others()
    except SwarmError:  # out of reach: nobody hears that the layers are needed
        return ()
    return succession(holder.span, others, holder.model.layer_count, now())


def _spans(layers: tuple[int, ...]) -> list[LayerSpan]:
    """`(0, 1, 5)` as 0-1 and 5."""
    spans: list[LayerSpan] = []
    for layer in layers:
        if spans and spans[-1].stop == layer:
            spans[-1] = LayerSpan(spans[-1].start, layer + 1)
        else:
            spans.append(LayerSpan(layer, layer + 1))
    return spans
