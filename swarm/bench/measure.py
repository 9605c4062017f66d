"""What is measured, each as a function from a swarm to numbers. Seconds are wall-clock, at the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from swarm.bench.figures import Recovery, Speed
from swarm.bench.plan import PROMPT_ROWS, WARM_UP
from swarm.bench.swarm import BenchSwarm
from swarm.client.generate import take_prompt
from swarm.client.heads import Heads, Wish
from swarm.client.session import ChainSession
from swarm.engine import Stage
from swarm.errors import LocalFault
from swarm.sampling import Sampling
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

GREEDY = Wish(Sampling(), answer_start=0)


@dataclass(slots=True)
class Run:
    """A session that is being measured: its ids so far and the last row."""

    session: ChainSession
    heads: Heads
    ids: list[int]
    row: Tensor

    async def decode(self, count: int) -> list[float]:
        """Seconds of each of `count` further tokens."""
        taken: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            picked = await self.heads.pick(self.row, GREEDY, self.ids)
            self.ids.append(picked.id)
            self.row = await self.session.step(Rows.DECODE, picked.embedded)
            taken.append(time.perf_counter() - began)
        return taken


@asynccontextmanager
async def running(
    swarm: BenchSwarm, heads: Heads, prompt: Sequence[int], tokens: int
) -> AsyncIterator[tuple[Run, float]]:
    """A session with its prompt taken in, and the seconds that took."""
    async with swarm.session(len(prompt) + tokens) as session:
        began = time.perf_counter()
        row = await take_prompt(session, heads, prompt)
        seconds = time.perf_counter() - began
        yield Run(session, heads, list(prompt), row), seconds


def prompt_of(rows: int, vocabulary: int, seed: int = 0) -> list[int]:
    """Ids that no two positions share by design."""
    return [(7919 * (index + 1) + 104729 * seed) % vocabulary for index in range(rows)]


@dataclass(frozen=True, slots=True)
class Measured:
    """One session's speed and what it said."""

    speed: Speed
    ids: tuple[int, ...]
    resident: int  # bytes of the chain's first worker while the session was there


async def one_session(swarm: BenchSwarm, heads: Heads, tokens: int, prompt_rows: int = PROMPT_ROWS) -> Measured:
    """A prompt, then tokens."""
    prompt = prompt_of(prompt_rows, heads.head.vocab)
    async with running(swarm, heads, prompt, WARM_UP + tokens) as (run, seconds):
        await run.decode(WARM_UP)
        taken = await run.decode(tokens)
        return Measured(
            Speed(prompt_rows / seconds, 1 / median(taken)), tuple(run.ids), swarm.workers[0].resident_bytes
        )


async def compare_chains(swarms: dict[int, BenchSwarm], heads: Heads, tokens: int) -> dict[int, Measured]:
    """The same session over chains of several lengths, one after the other. Raises LocalFault should two say different tokens."""
    found = {hops: await one_session(swarm, heads, tokens) for hops, swarm in swarms.items()}
    if len({measured.ids for measured in found.values()}) != 1:
        raise LocalFault("chains of different lengths gave different tokens")
    return found


async def together(swarm: BenchSwarm, heads: Heads, sessions: int, tokens: int) -> float:
    """Tokens a second of so many sessions at once, summed."""
    ready = asyncio.Barrier(sessions)
    spans: list[tuple[float, float]] = []

    async def one(seed: int) -> None:
        prompt = prompt_of(16, heads.head.vocab, seed)
        async with running(swarm, heads, prompt, WARM_UP + tokens) as (run, _):
            await ready.wait()
            await run.decode(WARM_UP)
            began = time.perf_counter()
            await run.decode(tokens)
            spans.append((began, time.perf_counter()))

    await asyncio.gather(*(one(seed) for seed in range(sessions)))
    return sessions * tokens / (max(end for _, end in spans) - min(begin for begin, _ in spans))


async def hop_overhead(swarm: BenchSwarm, heads: Heads, stages: Sequence[Stage], steps: int) -> float:
    """Median seconds that one hop adds: a step through the swarm, less the same layers computed here, over its hops."""
    prompt = prompt_of(16, heads.head.vocab)
    row = await heads.embed(prompt[:1], 0)
    taken: list[float] = []
    async with running(swarm, heads, prompt, WARM_UP + steps) as (run, _):
        for _ in range(WARM_UP + steps):
            began = time.perf_counter()
            await run.session.step(Rows.DECODE, row)
            taken.append(time.perf_counter() - began)
    return (median(taken[WARM_UP:]) - median(_compute_alone(stages, row, steps)[WARM_UP:])) / len(swarm.workers)


def _compute_alone(stages: Sequence[Stage], row: Tensor, steps: int) -> list[float]:
    caches = [stage.open(steps + WARM_UP) for stage in stages]
    taken: list[float] = []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        tensor = row
        for stage, cache in zip(stages, caches, strict=True):
            tensor = stage.tensor(stage.decode([(cache, stage.rows(tensor))])[0])
        taken.append(time.perf_counter() - began)
    return taken


async def recovery(swarm: BenchSwarm, heads: Heads, context: int) -> Recovery:
    """From a worker's death to its replacement being level, with so many rows to replay.

    `swarm` is two workers that hold the same layers, all there are. The victim is the one that the session is at.
    """
    prompt = prompt_of(context, heads.head.vocab)
    async with running(swarm, heads, prompt, 4) as (run, seconds):
        await run.decode(1)
        victim = run.session.chain.hops[0].peer_id
        next(worker for worker in swarm.workers if worker.record.peer_id == victim).kill()
        await run.decode(1)
        return Recovery(run.session.recoveries[0].seconds, seconds)
