"""Questions of one session to its worker: over a channel that is made again if it breaks, for as long as waiting is worth it.

Knows nothing of what the rows are.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from swarm.client.failover.busy_limit import BusyLimit
from swarm.client.peers import Peers
from swarm.errors import EdgeFault, PeerFault, PeerLost, PeerStalled, ProtocolFault
from swarm.routing.chain import Hop
from swarm.transport.channels.channel import Channel
from swarm.wire.messages import Expect, Forward, Load, Message, Push, Result, Working

REDIAL_SECONDS = 1.0  # a lost connection to a live worker is made again within this, or the worker is given up
EDGE_SECONDS = 2.0  # for rows that one worker says it handed on, and the next has not got


class Line:
    """To the worker of one hop."""

    def __init__(self, hop: Hop, channel: Channel, peers: Peers) -> None:
        self.channel = channel
        self.used_at = 0.0  # loop time, seconds
        self._hop = hop
        self._peers = peers
        self._handed: dict[int, float] = {}  # of steps that are expected: when the link before it had handed them on
        self._answered = 0  # questions for rows

    async def ask(self, message: Message, on_working: Callable[[Working], None] | None = None) -> Message:
        """Raises PeerFault, Overloaded."""
        reply = await self.channel.request(message, on_working)
        self.used_at = asyncio.get_running_loop().time()
        return reply

    async def result(self, message: Forward | Expect, load: Load) -> Result:
        """What the worker, last known to be so busy, makes of rows. Asks over a new connection if the old one breaks.

        Raises PeerFault, Overloaded; EdgeFault where what it is to expect does not come.
        """
        try:
            reply = await self.ask(message, self._wait(message.step, load))
        except PeerLost as lost:
            try:
                self.channel = await self._peers.channel(self._hop, REDIAL_SECONDS)
            except PeerFault:
                raise lost from None  # why the connection ended says more than why it cannot be made again
            reply = await self.ask(message, self._wait(message.step, load))
        self._answered += 1
        if not isinstance(reply, Result):
            peer = self._hop.peer_id.short
            raise ProtocolFault(f"peer {peer} answered {type(message).__name__} with {type(reply).__name__}")
        return reply

    def push(self, message: Push) -> None:
        """Wants no answer. Raises PeerFault."""
        self.used_at = asyncio.get_running_loop().time()
        self.channel.push(message)

    def expected(self, step: int) -> None:
        """The rows of a step are to come to the worker by themselves."""
        self._handed[step] = math.inf

    def handed(self, step: int) -> None:
        """They are on their way from the worker before it."""
        if step in self._handed:
            self._handed[step] = asyncio.get_running_loop().time()

    def came(self, step: int) -> None:
        """They are expected no more."""
        self._handed.pop(step, None)

    def _wait(self, step: int, load: Load) -> Callable[[Working], None]:
        """For one request. Raises PeerStalled, into the request, when it is no longer worth waiting."""
        wait = BusyLimit(load.step_seconds, len(self._hop.span))
        loop = asyncio.get_running_loop()

        def working(said: Working) -> None:
            if said.waiting and step in self._handed:  # of any other step it has the rows, or kept what came of them
                if loop.time() - self._handed[step] > EDGE_SECONDS:
                    raise EdgeFault(f"what was handed on to peer {self._hop.peer_id.short} did not come there")
                return
            if not wait.working(loop.time(), said.queue_rows, self._answered):
                raise PeerStalled(
                    f"peer {self._hop.peer_id.short} has said that it works for {wait.seconds:.0f} s, and nothing moved: "
                    f"{wait.limit:.0f} s can be explained"
                )

        return working
