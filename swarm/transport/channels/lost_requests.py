"""Which requests has a live peer lost? Decides from the order of Pings and signs on one stream. Pure: time is passed in.

A peer that works on a request says so twice a second. A Pong to a Ping that was sent behind the request says that the peer's
event loop has read both; if Pongs keep coming and nothing of the request does, it is lost. Round trips do not matter: what
counts is the time between the Pings that were answered, all sent since the last sign, and a loop that was stopped for a
while gives no Pongs meanwhile. While a large message is coming in, a reply may be waiting behind it, and nothing counts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

LOST_SECONDS = 5.0  # ten signs of those that are due twice a second
MOST_CREDIT_SECONDS = 1.0  # that one Pong counts: so there are five at least
QUIET_SECONDS = 1.0  # without a sign, after which Pings are sent though the peer is not silent


@dataclass(slots=True)
class _Request:
    since: float  # the last sign, or when it was asked
    silent: float | None = None  # seconds, as told by Pongs; None until the peer has read the request


class LostRequests:
    """Finds them among the requests of one channel. Streams are numbered upwards."""

    def __init__(self) -> None:
        self._requests: dict[int, _Request] = {}
        self._pings: deque[tuple[float, int]] = deque()  # sent at, and the last stream that it is surely behind
        self._newest = 0  # stream
        self._behind = 0  # what the last Ping was behind
        self._told = 0.0  # when the last Ping that was answered was sent

    def asked(self, stream: int, now: float) -> None:
        self._requests[stream] = _Request(now)
        self._newest = stream

    def heard(self, stream: int, now: float) -> None:
        """A sign that the peer works on it."""
        request = self._requests.get(stream)
        if request is not None:
            request.since, request.silent = now, 0.0

    def ended(self, stream: int) -> None:
        self._requests.pop(stream, None)

    def pinged(self, now: float, behind_all: bool) -> None:
        """A Ping was written; `behind_all`: behind everything that was asked."""
        if behind_all:
            self._behind = self._newest
        self._pings.append((now, self._behind))

    def ponged(self, arriving: bool) -> list[int]:
        """The oldest Ping was answered; `arriving`: while a large message comes in. Streams that are lost."""
        sent_at, behind = self._pings.popleft()
        credit = 0.0 if arriving else min(MOST_CREDIT_SECONDS, sent_at - self._told)
        self._told = sent_at
        lost = []
        for stream, request in self._requests.items():
            if stream > behind or sent_at < request.since:
                continue
            if request.silent is None:
                request.silent = 0.0
                continue
            request.silent += credit
            if request.silent >= LOST_SECONDS:
                lost.append(stream)
        return lost

    def wants_ping(self, now: float) -> bool:
        """Whether some request has been without a sign for a while."""
        return any(now - request.since >= QUIET_SECONDS for request in self._requests.values())

    def __repr__(self) -> str:
        return f"LostRequests({len(self._requests)} requests, {len(self._pings)} pings)"
