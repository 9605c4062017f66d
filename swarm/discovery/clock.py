"""Swarm time: what peers agree on, whatever their machines' clocks say. Pure; clocks are passed in, and nothing is sent.

Every signed response tells its sender's swarm time. Ours is our own clock plus the median of how far those are ahead of it; it
stays as it is while the median agrees to within SLACK_SECONDS, so that neither jitter nor a bias that all have in common moves
it. A newcomer therefore takes the time of those who are there; a minority moves nothing; and if the first node of a swarm is
an hour off, then so is everybody, in agreement, which is all that expiry needs.

Our own clock is read once: from then on time passes as the monotonic clock says, and a wall clock that jumps changes nothing.
A monotonic clock stands still while the machine sleeps, which looks like a jump of the wall clock too. So after one, what others
said before counts only until enough of them have said it again.

One network (/24, /48) has one voice, however many keys it mints; addresses of local networks have one each. Whoever has most
voices sets the time, by MAX_OFFSET at most: then records look expired, as if he had not passed them on, or some that have
expired do not, and their peers do not answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from swarm.discovery.addresses import Endpoint, reach
from swarm.records import address_block

SLACK_SECONDS = 2.0  # clocks that differ less agree; records live for a minute
MAX_OFFSET = 86400.0  # seconds between our own clock and the swarm's; one that is further off is to be set by its owner
MAX_VOICES = 64
VOICE_SECONDS = 600.0  # after that a voice no longer counts
ENOUGH = 3  # voices after a jump, for those before it to be forgotten


@dataclass(frozen=True, slots=True)
class _Voice:
    ahead: float  # seconds that its time is ahead of our own clock
    heard: float  # monotonic


class SwarmClock:
    """`time()` is swarm time; `hear` takes what a response said."""

    def __init__(self, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._now, self._monotonic = now, monotonic
        self._start: float | None = None  # our own clock less the monotonic one, when first read
        self._wall = 0.0  # the same, as last seen
        self._jumped = 0.0  # when it last changed, by the monotonic clock
        self._voices: OrderedDict[bytes, _Voice] = OrderedDict()
        self.offset = 0.0  # seconds that swarm time is ahead of our own clock

    def time(self) -> float:
        monotonic = self._monotonic()
        return self._read(monotonic) + monotonic + self.offset

    def _read(self, monotonic: float) -> float:
        """What our own clock is ahead of the monotonic one."""
        wall = self._now() - monotonic
        if self._start is None:
            self._start = self._wall = wall
        elif abs(wall - self._wall) > SLACK_SECONDS:
            self._wall, self._jumped = wall, monotonic
        return self._start

    def hear(self, source: Endpoint, said: float, asked: float) -> bool:
        """A response has just come to a request of the moment `asked`, by the monotonic clock. Whether swarm time changed.

        It was written about halfway between; if that took long it says little. A voice too far off is not listened to.
        """
        monotonic = self._monotonic()
        ahead = said - self._read(monotonic) - (asked + monotonic) / 2
        if abs(ahead) > MAX_OFFSET or monotonic - asked > 2 * SLACK_SECONDS:
            return False
        name = _name(source)
        self._voices[name] = _Voice(ahead, monotonic)
        self._voices.move_to_end(name)
        if len(self._voices) > MAX_VOICES:
            self._voices.popitem(last=False)
        self._forget(monotonic)
        median = nearest_median([voice.ahead for voice in self._voices.values()], self.offset)
        if abs(median - self.offset) <= SLACK_SECONDS:
            return False
        self.offset = median
        return True

    def _forget(self, monotonic: float) -> None:
        """The oldest voices stand first."""
        least = monotonic - VOICE_SECONDS
        if next(iter(self._voices.values())).heard <= self._jumped:
            anew = sum(voice.heard > self._jumped for voice in self._voices.values())
            if anew >= min(ENOUGH, len(self._voices) - anew):
                least = max(least, self._jumped)
        while next(iter(self._voices.values())).heard < least:
            self._voices.popitem(last=False)


def nearest_median(values: list[float], present: float) -> float:
    """Of an even number of values, that of the two in the middle which is nearer to the present one."""
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if abs(low - present) <= abs(high - present) else high


def _name(source: Endpoint) -> bytes:
    host, port = source
    return address_block(host) if reach(host) == 2 else f"{host} {port}".encode()
