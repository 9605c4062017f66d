"""`swarm bench`: measures in one run on this machine, and gives figures beside the bound or the baseline they belong to."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

from swarm.bench.against.llama_bench import TYPES
from swarm.bench.against.random_gguf import write_random
from swarm.bench.against.rivals import Rival, llama_bench, native_worker
from swarm.bench.figures import Figures, Resident, Round
from swarm.bench.measure import compare_chains, hop_overhead, one_session, recovery, together
from swarm.bench.plan import PROMPT_ROWS, WARM_UP, Plan
from swarm.bench.roofline import Memory
from swarm.bench.start import measure_start
from swarm.bench.subject import Subject
from swarm.bench.swarm import BenchSwarm
from swarm.client.heads import Heads
from swarm.engine import Stage
from swarm.engine.caches.footprint import row_bytes
from swarm.engine.compute_thread import ComputeThread
from swarm.engine.numerics import settle_threads
from swarm.kernels import library
from swarm.span import LayerSpan

SESSIONS = (1, 4, 16)
CHAINS = (1, 2, 4)
CONTEXTS = (128, 512, 1024)
OVERHEAD_STEPS = 200
HOP_CACHE_BYTES = 64 << 20
BUSY_SHARE = 0.5  # of all cores
FRESH_ROWS = 1  # before decoding from an empty cache

Progress = Callable[[str], None]


def even_spans(layers: int, workers: int) -> list[LayerSpan]:
    """The layers in so many spans of nearly equal length."""
    cuts = [layers * index // workers for index in range(workers + 1)]
    return [LayerSpan(start, stop) for start, stop in pairwise(cuts)]


async def measure(plan: Plan, progress: Progress = lambda text: None) -> Figures:
    """All figures of one subject. Takes a few minutes. Raises UsageFault, ModelFault, LocalFault."""
    plan.check()
    threads = settle_threads(plan.threads or len(os.sched_getaffinity(0)))
    if (busy := _busy()) is not None:
        progress(busy)
    kernels = library() if plan.numerics == "portable" else None
    figures = Figures(plan.subject.name, plan.precision, threads, plan.numerics, _processor())
    figures.kernels = "" if kernels is None else kernels.path
    async with ComputeThread() as compute:
        progress("loading the head")
        head = await compute.run(lambda: plan.subject.head(plan.precision, plan.numerics))
        heads = Heads(head, compute)
        async with model_file(plan, progress) as file:
            await _speeds(plan, figures, heads, compute, file, progress)
            if file is not None:
                progress("starting `swarm worker` twice")
                figures.start = await measure_start(
                    file,
                    plan.subject.spec.span,
                    precision=plan.precision,
                    numerics=plan.numerics,
                    threads=threads,
                    weight_bytes=figures.weight_bytes - head.logits_bytes,
                )
        await _hops(plan, figures, compute, progress)
        await _recoveries(plan, figures, heads, progress)
    return figures


@asynccontextmanager
async def model_file(plan: Plan, progress: Progress) -> AsyncIterator[Path | None]:
    """The model as a file: its own, or for another program one with random weights, which is there for as long."""
    if plan.subject.path is not None or plan.llama_bench is None:
        yield plan.subject.path
        return
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as folder:
        kind = TYPES[plan.precision]
        progress(f"writing random weights as {kind} into {folder}")
        file = Path(folder) / f"random-{kind.lower()}.gguf"
        write_random(file, plan.subject.spec, kind)
        yield file


async def _speeds(
    plan: Plan, figures: Figures, heads: Heads, compute: ComputeThread, file: Path | None, progress: Progress
) -> None:
    spec, turns = plan.subject.spec, plan.rounds
    async with AsyncExitStack() as stack:
        swarms: dict[int, BenchSwarm] = {}
        for count in (count for count in CHAINS if count <= spec.layer_count):
            progress(f"starting {count} worker{'s' if count > 1 else ''}")
            spans = even_spans(spec.layer_count, count)
            swarms[count] = await stack.enter_async_context(_swarm(plan, figures, spans))
        rivals: list[Rival] = []
        if plan.llama_bench is not None and file is not None:
            rivals.append(llama_bench(plan, plan.llama_bench, file, figures.threads))
        if plan.native:
            progress("starting a worker with native numerics")
            rivals.append(await stack.enter_async_context(native_worker(plan, compute, figures.threads)))
        figures.weight_bytes = swarms[1].workers[0].weight_bytes + heads.head.logits_bytes
        with Memory() as memory:
            for number in range(turns):
                progress(
                    f"round {number + 1} of {turns}: memory, a session over each chain, what is beside it, in turns"
                )
                figures.rounds.append(await _round(plan, figures, heads, swarms, memory, rivals))
        for number in range(max(1, turns // 2)):
            progress(f"{', '.join(map(str, SESSIONS))} sessions at once on one worker, {number + 1}")
            figures.together.append({count: await together(swarms[1], heads, count, plan.tokens) for count in SESSIONS})


async def _round(
    plan: Plan,
    figures: Figures,
    heads: Heads,
    swarms: dict[int, BenchSwarm],
    memory: Memory,
    rivals: Sequence[Rival],
) -> Round:
    bandwidth = memory.bandwidth()
    measured = await compare_chains(swarms, heads, plan.tokens)
    worker, rows = swarms[1].workers[0], PROMPT_ROWS + WARM_UP + plan.tokens
    cache = rows * row_bytes(plan.subject.spec, worker.record.span, plan.precision)
    figures.resident = Resident(measured[1].resident, worker.weight_bytes, cache)
    found = Round(bandwidth, {count: each.speed for count, each in measured.items()})
    figures.others = []
    for rival in rivals:
        other, found.others[other.name] = await rival.measure(2 * plan.tokens)
        figures.others.append(other)
    if any(other.fresh for other in figures.others):
        found.fresh = (await one_session(swarms[1], heads, 2 * plan.tokens, FRESH_ROWS)).speed.decode
    return found


async def _hops(plan: Plan, figures: Figures, compute: ComputeThread, progress: Progress) -> None:
    progress("what a hop adds")
    subject = Subject.of_shape("hop")
    precision = plan.precision
    spans = even_spans(subject.spec.layer_count, subject.spec.layer_count)
    stages: list[Stage] = [subject.stage(span, precision, plan.numerics, HOP_CACHE_BYTES) for span in spans]
    heads = Heads(subject.head(precision, plan.numerics), compute)
    async with BenchSwarm(
        subject, spans, precision=precision, numerics=plan.numerics, threads=figures.threads
    ) as swarm:
        figures.hop_seconds = await hop_overhead(swarm, heads, stages, OVERHEAD_STEPS)


async def _recoveries(plan: Plan, figures: Figures, heads: Heads, progress: Progress) -> None:
    whole = LayerSpan(0, plan.subject.spec.layer_count)
    for context in (context for context in CONTEXTS if context + 4 <= plan.subject.spec.max_positions):
        progress(f"recovery with {context} rows of context")
        figures.recovery[context] = []
        for _ in range(max(1, plan.rounds // 2)):
            async with _swarm(plan, figures, [whole, whole]) as swarm:
                figures.recovery[context].append(await recovery(swarm, heads, context))


def _swarm(plan: Plan, figures: Figures, spans: list[LayerSpan]) -> BenchSwarm:
    return BenchSwarm(plan.subject, spans, precision=plan.precision, numerics=plan.numerics, threads=figures.threads)


def _busy() -> str | None:
    """What is to be said where other programs compute, too, as far as the system knows."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load < BUSY_SHARE * (os.cpu_count() or 1):
        return None
    return f"other programs keep this machine busy (load {load:.1f}): figures will be low and scatter"


def _processor() -> str:
    """As the system calls it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
