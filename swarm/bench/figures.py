"""What one run measured, and what it is set against. Pure: numbers in, lines out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

SPARE_BYTES = 300_000_000  # that a process takes besides weights and caches


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure of several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure as a multiple of another of the same run."""

    of: str
    spread: Spread
    percent: bool = False  # how it is shown

    @classmethod
    def between(cls, of: str, upper: Sequence[float], lower: Sequence[float], percent: bool = False) -> Ratio:
        """Round by round, so that what slowed a whole round down falls out."""
        return cls(of, Spread.of([a / b for a, b in zip(upper, lower, strict=True)]), percent)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure and what it is set against."""

    what: str
    unit: str
    value: Spread
    ratios: tuple[Ratio, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second of one session."""

    prompt: float  # of PROMPT_ROWS
    decode: float  # by the median token


@dataclass(slots=True)
class Round:
    """What was measured one after the other, in one turn."""

    bandwidth: float  # bytes a second
    chains: dict[int, Speed]  # by number of workers; decoding after a prompt
    fresh: float | None = None  # tokens a second of one worker that decodes from an empty cache, as llama-bench does
    others: dict[str, Speed] = field(default_factory=dict)  # of what is measured beside it, by name


@dataclass(frozen=True, slots=True)
class Other:
    """What is measured beside it."""

    name: str  # with the type of its weights
    build: str
    weight_bytes: int
    fresh: bool  # whether it decodes from an empty cache


@dataclass(frozen=True, slots=True)
class Recovery:
    """From a worker's death to its replacement being level."""

    seconds: float
    prompt_seconds: float  # that the same rows took as a prompt, on the same worker


@dataclass(frozen=True, slots=True)
class Resident:
    """Memory of a worker process, in bytes."""

    measured: int
    weights: int
    cache: int


@dataclass(frozen=True, slots=True)
class Start:
    """Of `swarm worker` with all layers, from a model that is in the page cache."""

    seconds: float
    first_seconds: float  # the same with a manifest still to be made: every tensor is hashed
    file_bytes: int
    resident: Resident


@dataclass(slots=True)
class Figures:
    """What one run measured."""

    name: str
    precision: str
    threads: int
    numerics: str = "native"
    processor: str = ""
    kernels: str = ""  # the instruction set of portable ones
    weight_bytes: int = 0  # of all layers and the head: what one decoded token reads
    rounds: list[Round] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    together: list[dict[int, float]] = field(
        default_factory=list
    )  # each: by number of sessions, tokens a second in sum
    hop_seconds: float | None = None
    recovery: dict[int, list[Recovery]] = field(default_factory=dict)  # by rows of context; one after another
    resident: Resident | None = None
    start: Start | None = None

    @property
    def title(self) -> str:
        kind = f"{self.numerics} ({self.kernels})" if self.kernels else self.numerics
        return f"{self.name}, {self.precision}, {kind}, {self.threads} threads, {self.processor}"


def lines(figures: Figures, prompt_rows: int) -> list[Line]:
    """What there is of them, in the order in which it is shown."""
    found = [*_memory(figures), *_decode(figures), *_prompt(figures, prompt_rows), *_sessions(figures)]
    if figures.hop_seconds is not None:
        found.append(Line("a hop adds", "ms", _one(figures.hop_seconds * 1e3), note="loopback, TLS, width 2048"))
    return [*found, *_recoveries(figures), *_process(figures)]


def _one(value: float) -> Spread:
    return Spread(value, value, value)


def _bounds(figures: Figures) -> list[float]:
    return [each.bandwidth / figures.weight_bytes for each in figures.rounds]


def _chain_name(workers: int) -> str:
    return "one worker" if workers == 1 else f"chain of {workers}"


def _memory(figures: Figures) -> list[Line]:
    note = f"{figures.weight_bytes / 1e9:.3f} GB of weights a token"
    return [
        Line("memory, read", "GB/s", Spread.of([each.bandwidth / 1e9 for each in figures.rounds])),
        Line("decode, memory's bound", "tokens/s", Spread.of(_bounds(figures)), note=note),
    ]


def _decode(figures: Figures) -> list[Line]:
    found, one = [], [each.chains[1].decode for each in figures.rounds]
    for workers in figures.rounds[0].chains:
        speeds = [each.chains[workers].decode for each in figures.rounds]
        ratios = [Ratio.between("memory's bound", speeds, _bounds(figures), percent=True)]
        if workers > 1:
            ratios.insert(0, Ratio.between("one worker", speeds, one, percent=True))
        else:
            ratios += [
                Ratio.between(other.name, one, _theirs(figures, other, "decode"))
                for other in figures.others
                if not other.fresh
            ]
        found.append(Line(f"decode, {_chain_name(workers)}", "tokens/s", Spread.of(speeds), tuple(ratios)))
    fresh = [each.fresh for each in figures.rounds if each.fresh is not None]
    if fresh:
        beside = [other for other in figures.others if other.fresh]
        ratios = [Ratio.between(other.name, fresh, _theirs(figures, other, "decode")) for other in beside]
        found.append(Line("decode from an empty cache, one worker", "tokens/s", Spread.of(fresh), tuple(ratios)))
    return [*found, *(_other_decode(figures, other) for other in figures.others)]


def _other_decode(figures: Figures, other: Other) -> Line:
    speeds = _theirs(figures, other, "decode")
    bound = [each.bandwidth / other.weight_bytes for each in figures.rounds]
    ratio = Ratio.between("memory's bound for its bytes", speeds, bound, percent=True)
    note = f"{other.weight_bytes / 1e9:.3f} GB of weights, {other.build}"
    return Line(f"decode, {other.name}", "tokens/s", Spread.of(speeds), (ratio,), note)


def _theirs(figures: Figures, other: Other, what: str) -> list[float]:
    """Of each round."""
    return [getattr(each.others[other.name], what) for each in figures.rounds]


def _prompt(figures: Figures, rows: int) -> list[Line]:
    found, one = [], [each.chains[1].prompt for each in figures.rounds]
    for workers in figures.rounds[0].chains:
        speeds = [each.chains[workers].prompt for each in figures.rounds]
        ratios = [Ratio.between("one worker", speeds, one, percent=True)]
        if workers == 1:
            ratios = [Ratio.between(each.name, one, _theirs(figures, each, "prompt")) for each in figures.others]
        found.append(Line(f"prompt of {rows}, {_chain_name(workers)}", "tokens/s", Spread.of(speeds), tuple(ratios)))
    for other in figures.others:
        theirs = Spread.of(_theirs(figures, other, "prompt"))
        found.append(Line(f"prompt of {rows}, {other.name}", "tokens/s", theirs))
    return found


def _sessions(figures: Figures) -> list[Line]:
    found = []
    for count in figures.together[0] if figures.together else ():
        rates = [each[count] for each in figures.together]
        ratio = Ratio.between("one session", rates, [each[1] for each in figures.together])
        what = f"{count} sessions on one worker, summed" if count > 1 else "one session on one worker"
        found.append(Line(what, "tokens/s", Spread.of(rates), (ratio,) if count > 1 else ()))
    return found


def _recoveries(figures: Figures) -> list[Line]:
    note = "from a death to a replacement that is level; all layers on one worker"
    found = []
    for rows, each in figures.recovery.items():
        seconds = [one.seconds for one in each]
        ratio = Ratio.between("a prompt of as many rows", seconds, [one.prompt_seconds for one in each])
        found.append(Line(f"recovery of {rows} rows", "s", Spread.of(seconds), (ratio,), note))
    return found


def _process(figures: Figures) -> list[Line]:
    found = []
    if figures.resident is not None:
        found.append(_resident("memory of a worker at work", figures.resident))
    if figures.start is not None:
        start, read = figures.start, max(each.bandwidth for each in figures.rounds)
        bound = 2 + start.file_bytes / (0.7 * read)
        ratio = Ratio("2 s + bytes / 70 % of read speed", _one(start.seconds / bound))
        note = f"`swarm worker` with all layers, page cache warm; {start.first_seconds:.2f} s where tensors are hashed first"
        found.append(Line("start of a worker", "s", _one(start.seconds), (ratio,), note))
        found.append(_resident("memory of a worker that has started", start.resident))
    return found


def _resident(what: str, resident: Resident) -> Line:
    spare = resident.measured - resident.weights - resident.cache
    allowed = resident.weights + resident.cache + SPARE_BYTES
    note = (
        f"weights {resident.weights / 1e6:.0f} MB, cache {resident.cache / 1e6:.0f} MB, all else {spare / 1e6:.0f} MB"
    )
    ratio = Ratio("weights + cache + 300 MB", _one(resident.measured / allowed))
    return Line(what, "MB", _one(resident.measured / 1e6), (ratio,), note)
