"""What is measured in turns with our own kernels: another program, or torch's kernels in a worker of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from swarm.bench.against.llama_bench import TYPES, arguments, parse
from swarm.bench.against.program import Program, output_of
from swarm.bench.figures import Other, Speed
from swarm.bench.measure import one_session
from swarm.bench.plan import PROMPT_ROWS, Plan
from swarm.bench.swarm import BenchSwarm
from swarm.client.heads import Heads
from swarm.engine.compute_thread import ComputeThread


class Rival(Protocol):
    """One of them."""

    async def measure(self, tokens: int) -> tuple[Other, Speed]:
        """One turn, in which so many tokens are decoded."""


@dataclass(frozen=True, slots=True)
class LlamaBench:
    """llama.cpp's own benchmark."""

    program: Program
    file: Path
    name: str
    threads: int

    async def measure(self, tokens: int) -> tuple[Other, Speed]:
        out, _ = await output_of(self.program, arguments(self.file, self.threads, PROMPT_ROWS, tokens))
        report = parse(out, PROMPT_ROWS, tokens)
        other = Other(self.name, f"build {report.build}", report.weight_bytes, fresh=True)
        return other, Speed(report.prompt, report.decode)


@dataclass(frozen=True, slots=True)
class NativeWorker:
    """A worker with torch's kernels."""

    swarm: BenchSwarm
    heads: Heads
    precision: str

    async def measure(self, tokens: int) -> tuple[Other, Speed]:
        measured = await one_session(self.swarm, self.heads, tokens)
        size = self.swarm.workers[0].weight_bytes + self.heads.head.logits_bytes
        return Other(f"native {self.precision}", f"torch {torch.__version__}", size, fresh=False), measured.speed


def llama_bench(plan: Plan, program: Program, file: Path, threads: int) -> LlamaBench:
    """On the subject's own file, or on one with random weights."""
    name = f"llama.cpp's {TYPES[plan.precision]}" if plan.subject.path is None else "llama.cpp on the same file"
    return LlamaBench(program, file, name, threads)


@asynccontextmanager
async def native_worker(plan: Plan, compute: ComputeThread, threads: int) -> AsyncIterator[NativeWorker]:
    """The same layers, in bf16 where the plan has integers."""
    precision = "fp32" if plan.precision == "fp32" else "bf16"
    heads = Heads(await compute.run(lambda: plan.subject.head(precision, "native")), compute)
    spans = [plan.subject.spec.span]
    async with BenchSwarm(plan.subject, spans, precision=precision, numerics="native", threads=threads) as swarm:
        yield NativeWorker(swarm, heads, precision)
