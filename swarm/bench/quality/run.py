"""`swarm bench --quality MODEL TEXT`: a model in several precisions at once, window by window, each beside fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from torch import Tensor

from swarm.bench.against.llama_perplexity import Perplexity, arguments, parse
from swarm.bench.against.program import Program, output_of
from swarm.bench.quality.tally import Tally
from swarm.bench.quality.windows import Window, windows_of
from swarm.bench.subject import Subject
from swarm.engine import CHUNK_ROWS, Head, Stage, footprint
from swarm.engine.caches.footprint import row_bytes, session_bytes
from swarm.engine.caches.kv_cache import pages_of
from swarm.engine.numerics import settle_threads
from swarm.errors import ModelFault, UsageFault
from swarm.text.tokenizer import Text

REFERENCE = "fp32"
PRECISIONS = {
    "portable": ("bf16", "bf16+cache-int8", "int8", "int8+activations-int16", "int4", "as-stored"),
    "native": ("bf16",),
}  # by numerics, besides the reference
LOGIT_ROWS = 64  # whose logits are there at once: a large vocabulary's take half a megabyte a row
MAX_TEXT_BYTES = 64 << 20
SPARE_BYTES = 1 << 30  # of memory that are left alone

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be judged."""

    subject: Subject
    text: Path
    precisions: tuple[str, ...]  # besides the reference
    numerics: str = "portable"
    threads: int | None = None
    window: int = 512
    windows: int = 16  # at most
    against: Program | None = None

    def check(self) -> None:
        """Raises UsageFault where options do not go together."""
        subject, against = self.subject, self.against
        if subject.spec.both_ways or subject.spec.family.head is None:
            raise UsageFault(f"--quality: {subject.spec.architecture} predicts no tokens")
        if self.window > subject.spec.max_positions:
            raise UsageFault(f"--window {self.window}: the model's context is {subject.spec.max_positions}")
        if against is None:
            return
        if against.name != "llama-perplexity":
            raise UsageFault(f"--against {against.name}: goes without --quality; with it, it is llama-perplexity:PATH")
        if subject.path is None or subject.path.suffix != ".gguf":
            raise UsageFault(f"--against llama-perplexity: reads GGUF files, and {subject.path} is none")


@dataclass(slots=True)
class Quality:
    """What came of it."""

    name: str
    numerics: str
    window: int
    windows: int
    tallies: dict[str, Tally] = field(default_factory=dict)  # by precision, the reference's first
    other: Perplexity | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A whole model in one precision."""

    stage: Stage
    head: Head

    def rows(self, ids: Sequence[int]) -> Tensor:
        """[ids, width], from an empty cache."""
        cache = self.stage.open(len(ids))
        try:
            starts = range(0, len(ids), CHUNK_ROWS)
            return torch.cat(
                [self.stage.chunk(cache, self.head.embed(ids[start : start + CHUNK_ROWS], start)) for start in starts]
            )
        finally:
            cache.close()


async def judge(plan: Plan, progress: Progress = lambda text: None) -> Quality:
    """Raises UsageFault, ModelFault, LocalFault."""
    plan.check()
    threads = settle_threads(plan.threads)
    text = Text.load(_path(plan.subject))
    windows = windows_of(*_tokens(plan.text, text, plan.window, plan.windows))
    quality = Quality(plan.subject.name, plan.numerics, plan.window, len(windows))
    candidates = _load(plan, progress)
    quality.tallies = {precision: Tally() for precision in candidates}
    for number, window in enumerate(windows, 1):
        progress(f"window {number} of {len(windows)}")
        _judge(window, candidates, quality.tallies, text)
    if plan.against is not None:
        progress(plan.against.name)
        told = arguments(_path(plan.subject), plan.text, threads, plan.window, len(windows))
        out, complained = await output_of(plan.against, told)
        quality.other = parse(out + complained)
    return quality


def _path(subject: Subject) -> Path:
    assert subject.path is not None
    return subject.path


def _tokens(path: Path, text: Text, window: int, most: int) -> tuple[list[int], int, int, int | None]:
    """What `windows_of` takes. Raises UsageFault naming the file."""
    try:
        size = path.stat().st_size
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"--quality: {path} is no text that can be read: {error}") from error
    if size > MAX_TEXT_BYTES:
        raise UsageFault(f"--quality: {path} has {size} bytes; at most {MAX_TEXT_BYTES} are read")
    beginning = text.encode("", add_special=True)
    return text.encode(content, add_special=True), window, most, beginning[0] if beginning else None


def _load(plan: Plan, progress: Progress) -> dict[str, Candidate]:
    """All at once, the reference first. Raises UsageFault where memory has no room for them."""
    spec, names = plan.subject.spec, (REFERENCE, *(name for name in plan.precisions if name != REFERENCE))
    needed = sum(footprint(spec, spec.span, name, plan.window, with_head=True) for name in names)
    free = psutil.virtual_memory().available - SPARE_BYTES
    if needed > free:
        raise UsageFault(
            f"--quality: {', '.join(names)} at once take {needed / 1e9:.1f} GB, and {max(free, 0) / 1e9:.1f} GB are free: "
            "name one with --precision"
        )
    found = {}
    for name in names:
        progress(f"loading {name}")
        cache = pages_of(plan.window) * row_bytes(spec, spec.span, name)
        cache += session_bytes(spec, spec.span, name, plan.window)
        stage = plan.subject.stage(spec.span, name, plan.numerics, cache)
        found[name] = Candidate(stage, plan.subject.head(name, plan.numerics))
    return found


def _judge(window: Window, candidates: dict[str, Candidate], tallies: dict[str, Tally], text: Text) -> None:
    rows = {name: each.rows(window.ids)[window.first : -1] for name, each in candidates.items()}
    for start in range(0, len(window.judged), LOGIT_ROWS):
        judged = window.judged[start : start + LOGIT_ROWS]
        size, targets = sum(len(text.piece(id_)) for id_ in judged), torch.tensor(judged)
        reference = candidates[REFERENCE].head.logits(rows[REFERENCE][start : start + LOGIT_ROWS])
        if not torch.isfinite(reference).all():
            raise ModelFault(f"--quality: {REFERENCE} logits are not finite, so nothing can be set against them")
        for name, tally in tallies.items():
            own = reference
            if name != REFERENCE:
                own = candidates[name].head.logits(rows[name][start : start + LOGIT_ROWS])
            tally.add(own, reference, targets, size)
