"""Brings new links level with the inputs that a hop was given, and compares what they compute with what came of it then."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from swarm.client.hops.history import Entry, History
from swarm.client.hops.session import HopSession
from swarm.client.hops.sessions import HopFault
from swarm.errors import SwarmError


class Replay:
    """`await run()`, as often as there are more inputs. The first link has taken over `inputs`."""

    def __init__(
        self,
        links: Sequence[HopSession],
        inputs: History,
        after: History,  # what came of them
        replay_rows: int,
        progress: Callable[[int], None] = lambda rows: None,  # told of each row that is reached
    ) -> None:
        self.links = tuple(links)
        self.reached = 0  # rows
        self._inputs = inputs
        self._after = after
        self._replay_rows = replay_rows
        self._progress = progress
        self._beyond: list[Entry] = []  # outputs whose like nobody told us
        self._digest = hashlib.sha256()
        self._equal = True

    @property
    def digest(self) -> str | None:
        """None if the outputs equal what came then, as far as that is known, else a digest of them."""
        return None if self._equal else self._digest.hexdigest()

    @property
    def level(self) -> bool:
        return self.reached == self._inputs.length

    async def run(self) -> None:
        """Until the links are level, also with what is appended meanwhile. Raises HopFault."""
        while not self.level:
            for segment in self._inputs.segments(self._replay_rows, self.reached):
                await self._forward(segment)

    async def follow(self, stopped: Callable[[], bool]) -> None:
        """As far as it is known what came of the inputs, or until it is to stop. Raises HopFault."""
        for segment in self._inputs.segments(self._replay_rows, self.reached, self._after.length):
            if stopped():
                break
            await self._forward(segment)

    async def _forward(self, segment: Entry) -> None:
        entry = segment
        for index, link in enumerate(self.links):
            try:
                output = await link.forward(entry)
            except SwarmError as error:
                raise HopFault([(link.hop, error)]) from error
            if index:
                link.inputs.append(entry)
            entry = Entry(segment.rows, segment.position, output)
        self.reached = entry.position + entry.count
        self._progress(self.reached)
        self._digest.update(entry.tensor.data)
        known = min(max(self._after.length - entry.position, 0), entry.count)
        if known:
            told = self._after.bytes_at(entry.position, known)
            self._equal = self._equal and told == entry.head(known).tensor.data
        if known < entry.count:
            self._beyond.append(entry.tail(known))

    def tell(self) -> None:
        """Outputs that were not known are what came of the inputs from now on."""
        for entry in self._beyond:
            self._after.append(entry)
        self._beyond.clear()
