"""`swarm bench`: measures in one run on this machine, and prints figures beside the bound or the baseline they belong to."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise

from rich.console import Console
from rich.table import Table

from swarm.bench.measure import Speed, compare_chains, hop_overhead, recovery, together
from swarm.bench.roofline import read_bandwidth
from swarm.bench.shapes import shape
from swarm.bench.swarm import BenchSwarm
from swarm.client.heads import Heads
from swarm.engine import Head, Stage, footprint
from swarm.engine.compute_thread import ComputeThread
from swarm.engine.numerics import settle_threads
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

SESSIONS = (1, 4, 16)
OVERHEAD_STEPS = 200


@dataclass(slots=True)
class Figures:
    """What one run measured. Rates are tokens a second."""

    shape: str
    precision: str
    threads: int
    numerics: str = "native"
    bandwidth: float = 0.0  # bytes a second
    bytes_per_token: int = 0  # weights that one decoded token reads, head included
    chains: dict[int, Speed] = field(default_factory=dict)  # by number of workers
    together: dict[int, float] = field(default_factory=dict)  # by number of sessions
    hop_seconds: float = 0.0
    recovery: dict[int, float] = field(default_factory=dict)  # by rows of context; seconds

    @property
    def roofline(self) -> float:
        """Tokens a second that memory allows one session."""
        return self.bandwidth / self.bytes_per_token


def even_spans(layers: int, workers: int) -> list[LayerSpan]:
    """The layers in so many spans of nearly equal length."""
    cuts = [layers * index // workers for index in range(workers + 1)]
    return [LayerSpan(start, stop) for start, stop in pairwise(cuts)]


async def measure(
    name: str,
    *,
    precision: str = "bf16",
    numerics: str = "native",
    threads: int | None = None,
    quick: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Figures:
    """All figures of one shape. Takes a few minutes; `quick` takes fewer rounds. Raises UsageFault for an unknown shape."""
    threads = settle_threads(threads or len(os.sched_getaffinity(0)))
    figures = Figures(name, precision, threads, numerics)
    spec = ModelSpec.from_config(shape(name))
    progress("memory: reading 1 GiB five times")
    figures.bandwidth = read_bandwidth()
    async with ComputeThread() as compute:
        head = await compute.run(lambda: Head.random(spec, precision=precision, device="cpu", numerics=numerics))
        heads = Heads(head, compute)
        whole = LayerSpan(0, spec.layer_count)
        figures.bytes_per_token = footprint(spec, whole, precision) + head.logits_bytes
        await _speeds(figures, spec, heads, quick, progress)
        await _hops(figures, compute, progress)
        await _recoveries(figures, spec, heads, quick, progress)
    return figures


async def _speeds(
    figures: Figures, spec: ModelSpec, heads: Heads, quick: bool, progress: Callable[[str], None]
) -> None:
    rounds, tokens = (2, 8) if quick else (4, 16)
    async with AsyncExitStack() as stack:
        swarms: dict[int, BenchSwarm] = {}
        for count in (1, 2, 4):
            progress(f"starting {count} worker{'s' if count > 1 else ''} with random weights")
            swarms[count] = await stack.enter_async_context(_swarm(figures, spec, even_spans(spec.layer_count, count)))
        progress("one session over chains of 1, 2 and 4 workers, in turns")
        figures.chains = await compare_chains(swarms, heads, rounds, tokens)
        for sessions in SESSIONS:
            progress(f"{sessions} session{'s' if sessions > 1 else ''} at once on one worker")
            figures.together[sessions] = await together(swarms[1], heads, sessions, 2 * tokens)


async def _hops(figures: Figures, compute: ComputeThread, progress: Callable[[str], None]) -> None:
    progress("what a hop adds")
    spec = ModelSpec.from_config(shape("hop"))
    spans = even_spans(spec.layer_count, spec.layer_count)
    stages = [
        Stage.random(spec, span, figures.precision, cache_bytes=64 << 20, numerics=figures.numerics) for span in spans
    ]
    heads = Heads(Head.random(spec, figures.precision, numerics=figures.numerics), compute)
    figures_of_hop = Figures("hop", figures.precision, figures.threads, figures.numerics)
    async with _swarm(figures_of_hop, spec, spans) as swarm:
        figures.hop_seconds = await hop_overhead(swarm, heads, stages, OVERHEAD_STEPS)


async def _recoveries(
    figures: Figures, spec: ModelSpec, heads: Heads, quick: bool, progress: Callable[[str], None]
) -> None:
    spans = even_spans(spec.layer_count, 2)
    for context in (128, 512) if quick else (128, 512, 1024):
        progress(f"recovery with {context} rows of context")
        async with _swarm(figures, spec, [*spans, *spans]) as swarm:
            figures.recovery[context] = await recovery(swarm, heads, context)


def _swarm(figures: Figures, spec: ModelSpec, spans: list[LayerSpan]) -> BenchSwarm:
    return BenchSwarm(
        figures.shape, spec, spans, precision=figures.precision, numerics=figures.numerics, threads=figures.threads
    )


def show(figures: Figures, console: Console) -> None:
    """The figures as tables."""
    one, two, four = (figures.chains[count] for count in (1, 2, 4))
    table = Table(title=f"{figures.shape}, {figures.precision}, {figures.numerics}, {figures.threads} threads")
    for column, justify in (("measured", "left"), ("figure", "right"), ("beside", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_row("memory read bandwidth", f"{figures.bandwidth / 1e9:.1f} GB/s", "best of five reads of 1 GiB")
    table.add_row(
        "decode, memory's bound",
        f"{figures.roofline:.2f} tokens/s",
        f"{figures.bytes_per_token / 1e9:.2f} GB of weights a token",
    )
    share = one.decode / figures.roofline
    table.add_row("decode, one worker", f"{one.decode:.2f} tokens/s", f"{share:.0%} of memory's bound")
    table.add_row("decode, chain of two", f"{two.decode:.2f} tokens/s", f"{two.decode / one.decode:.0%} of one worker")
    table.add_row(
        "decode, chain of four", f"{four.decode:.2f} tokens/s", f"{four.decode / one.decode:.0%} of one worker"
    )
    for name, speed in (("one worker", one), ("chain of two", two), ("chain of four", four)):
        table.add_row(f"prompt, {name}", f"{speed.prompt:.1f} tokens/s", "")
    single = figures.together[1]
    for sessions, rate in figures.together.items():
        table.add_row(f"{sessions} sessions, summed", f"{rate:.2f} tokens/s", f"{rate / single:.1f} x one session")
    table.add_row("a hop adds", f"{figures.hop_seconds * 1e3:.2f} ms", "median, loopback, TLS, hidden 2048")
    for context, seconds in figures.recovery.items():
        table.add_row(f"recovery, {context} rows", f"{seconds:.2f} s", "from the death to a level replacement")
    console.print(table)
