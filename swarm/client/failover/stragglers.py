"""Is a hop much slower than it was, and is leaving it worth a replay? Pure: seconds in, decisions out.

A worker is slow when its own steps take many times as long as they did, for longer than a hiccup, and nothing known explains
it: not its queue, not the prompts of others that slip between our rows, not a network or a machine of ours on which every
hop takes longer alike. Busy is not slow: those who share a worker would else chase each other from one to the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

from swarm.routing.cost import TILE_ROWS
from swarm.wire.rows import Rows

SLOWER = (
    5.0  # times as long as usual: beyond noise and sharing, which double or treble; short of the ten that must be left
)
EXCESS_SECONDS = {
    Rows.DECODE: 0.05,
    Rows.CHUNK: 0.5,
}  # a step that takes less longer than usual disturbs less than a move
SLOW_STEPS = 3  # that many slow ones ...
OF_STEPS = 4  # ... of so many: one quick step does not hide a slow worker, one or two slow ones do not make one
WINDOW_STEPS = (
    8  # or of so many that together took as long as if each were slow: who works by fits and starts is slow too
)
PAST_STEPS = 32  # whose median is the usual; it follows a context that grows
ENOUGH_STEPS = {Rows.DECODE: 4, Rows.CHUNK: 2}  # of its own from which a hop is measured by its past alone
CHUNK_ROWS = 128  # of a full chunk
CHUNK_STEPS = 2 * CHUNK_ROWS / TILE_ROWS  # what a full chunk costs at most, in decode steps: two for each tile
BETTER = 3.0  # times quicker than now is what a replacement must promise; after a replay, promises of less are noise
PAYS = 2.0  # times its cost is what a replay must save
HORIZON_STEPS = 256  # an answer may end at any time: savings beyond so many steps do not count
FIRST_PAUSE_SECONDS = 15.0  # after a try, doubling with each; so whatever is wrong, tries become rare
MOST_PAUSE_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Step:
    """Rows taken through one hop."""

    kind: Rows
    rows: int
    seconds: float  # from asking to the answer
    queue_rows: int = 0  # that waited at the worker, as its replies before and after said
    shared: bool = False  # whether a chunk of another session may have been computed before these rows


@dataclass(frozen=True, slots=True)
class Slowness:
    """What a hop that should be left was like."""

    kind: Rows
    seconds: float  # that its last slow steps took
    usual: float  # that they should have taken
    chunk: float  # that a full chunk takes at most, when all is well

    def __str__(self) -> str:
        what = "chunks" if self.kind is Rows.CHUNK else "steps"
        return f"slow: its {what} take {self.seconds:.3g} s instead of {self.usual:.3g} s"


class _Series:
    """Steps of one kind."""

    def __init__(self) -> None:
        self.past: deque[float] = deque(maxlen=PAST_STEPS)  # that were not slow
        self.last: deque[tuple[float, bool]] = deque(maxlen=WINDOW_STEPS)  # seconds, and whether that was slow

    def slow(self, usual: float, excess: float) -> list[float]:
        """Seconds of the last slow ones, if they make the hop one to leave."""
        slow = [seconds for seconds, is_slow in self.last if is_slow]
        close = sum(is_slow for _, is_slow in [*self.last][-OF_STEPS:]) >= SLOW_STEPS
        most = max(SLOWER * usual, usual + excess)
        apart = len(slow) >= SLOW_STEPS and sum(seconds for seconds, _ in self.last) >= WINDOW_STEPS * most
        return slow if close or apart else []


class HopTempo:
    """Of one hop in one session. `predicted`: seconds of a decode step by what the worker announces, None if unknown."""

    def __init__(self, predicted: float | None) -> None:
        self.predicted = predicted
        self._series = {Rows.DECODE: _Series(), Rows.CHUNK: _Series()}
        self._rows = 0  # of the largest chunk: others are not compared

    def usual(self, kind: Rows, bias: float = 1.0) -> float | None:
        """Seconds that a step should take, None if unknown. `bias`: by how much predictions fall short elsewhere."""
        past = self._series[kind].past
        if len(past) >= ENOUGH_STEPS[kind]:
            return median(past)
        if kind is Rows.CHUNK or self.predicted is None:
            return None
        return max([bias * self.predicted, *([median(past)] if past else [])])

    @property
    def bias(self) -> float | None:
        """How many times longer than predicted its ordinary steps take; None if unknown."""
        past = self._series[Rows.DECODE].past
        return median(past) / self.predicted if past and self.predicted else None

    def chunk(self, usual: float) -> float:
        """Seconds of a full chunk at most, where a decode step takes `usual`. A past that was slow all along tells too much."""
        past = self._series[Rows.CHUNK].past
        return min(median(past), CHUNK_STEPS * usual) if past else CHUNK_STEPS * usual

    def add(self, step: Step, common: float, bias: float) -> Slowness | None:
        """What a step took; `common`: by how much the hops beside it took longer than usual. Not None: it should be left."""
        if step.kind is Rows.CHUNK and step.rows != self._rows:
            if step.rows < self._rows:
                return None
            self._rows, self._series[Rows.CHUNK] = step.rows, _Series()
        series = self._series[step.kind]
        usual = self.usual(step.kind, bias)
        if usual is None or not self._is_slow(step, usual, max(1.0, common)):
            series.past.extend(self._ordinary(step, usual, max(1.0, common)))
            series.last.append((step.seconds, False))
            return None
        series.last.append((step.seconds, True))
        slow = series.slow(usual, EXCESS_SECONDS[step.kind])
        if not slow:
            return None
        decode = self.usual(Rows.DECODE, bias) if step.kind is Rows.CHUNK else usual
        chunk = self.chunk(decode) if decode is not None else usual
        return Slowness(step.kind, median(slow), usual, chunk)

    @staticmethod
    def _ordinary(step: Step, usual: float | None, common: float) -> list[float]:
        """What to keep of a step that was not slow. One that took long for a known reason says nothing of the hop."""
        kept = [step.seconds, step.seconds / common]
        if usual is None:
            return kept[:1]
        most = max(SLOWER * usual, usual + EXCESS_SECONDS[step.kind])
        return [seconds for seconds in kept if seconds <= most][:1]

    def _is_slow(self, step: Step, usual: float, common: float) -> bool:
        explained = common * usual * (1 + step.queue_rows / TILE_ROWS)
        slips = 0.0
        if step.shared:  # a prompt of another session may slip in before our rows
            slips = usual if step.kind is Rows.CHUNK else self.chunk(usual)
        return step.seconds > SLOWER * explained + slips and step.seconds > explained + EXCESS_SECONDS[step.kind]


def judge(steps: Sequence[tuple[HopTempo, Step]]) -> list[Slowness | None]:
    """Of one step through the whole chain, hop by hop: which should be left."""
    biases = [tempo.bias for tempo, _ in steps]
    ratios: list[float | None] = []
    for tempo, step in steps:
        usual = tempo.usual(step.kind)
        ratios.append(step.seconds / usual if usual else None)
    found = []
    for index, (tempo, step) in enumerate(steps):
        found.append(tempo.add(step, _least(ratios, index), _least(biases, index)))
    return found


def _least(values: Sequence[float | None], but: int) -> float:
    """Of the others' factors the least that is known, and never less than one."""
    return max(1.0, min((v for index, v in enumerate(values) if index != but and v is not None), default=1.0))


def pays(slowness: Slowness, extra: float, position: int, rows_left: int) -> bool:
    """Whether to replay `position` rows to another chain that needs `extra` seconds more for a row than the hop usually does.

    A prompt is expected to go on for as long as it has, an answer to its bound.
    """
    extra = max(0.0, extra)
    if slowness.kind is Rows.CHUNK:
        better = slowness.usual + CHUNK_STEPS * extra
        steps = min(rows_left, position) / CHUNK_ROWS
    else:
        better = slowness.usual + extra
        steps = min(rows_left, HORIZON_STEPS)
    replay = (slowness.chunk + CHUNK_STEPS * extra) * ceil(position / CHUNK_ROWS)
    return slowness.seconds >= BETTER * better and (slowness.seconds - better) * steps >= PAYS * replay


class Tries:
    """How often a session may try to leave a hop that still works."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE_SECONDS
        self._again = float("-inf")

    def take(self, now: float) -> bool:
        """Whether a try may be made now; it then counts as made."""
        if now < self._again:
            return False
        self._again = now + self._pause
        self._pause = min(MOST_PAUSE_SECONDS, 2 * self._pause)
        return True
