"""Chains of several lengths over long links, direct and through the client, in turns with one worker close by."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from swarm.bench.figures import Line, Ratio, Speed, Spread
from swarm.bench.measure import one_session
from swarm.bench.plan import PROMPT_ROWS, Plan
from swarm.bench.run import even_spans
from swarm.bench.swarm import BenchSwarm
from swarm.bench.wan.distance import Distance
from swarm.bench.wan.relay import HOST
from swarm.client.heads import Heads
from swarm.engine import CHUNK_ROWS
from swarm.engine.compute_thread import ComputeThread
from swarm.engine.numerics import settle_threads
from swarm.errors import LocalFault
from swarm.records import Address

HOPS = (2, 3, 4, 6)
ROW_NUMBER_BYTES = 2  # of a hidden state between layers, as it travels
RELAY_SECONDS = 10.0  # that it may take to start


async def measure_wan(plan: Plan, distance: Distance, progress: Callable[[str], None]) -> list[Line]:
    """Decoding and prompts over each number of hops. Raises UsageFault, ModelFault, LocalFault."""
    plan.check()
    spec = plan.subject.spec
    threads = settle_threads(plan.threads or len(os.sched_getaffinity(0)))
    async with ComputeThread() as compute:
        progress("loading the head")
        heads = Heads(await compute.run(lambda: plan.subject.head(plan.precision, plan.numerics)), compute)

        def swarm(hops: int) -> BenchSwarm:
            spans = even_spans(spec.layer_count, hops)
            return BenchSwarm(plan.subject, spans, precision=plan.precision, numerics=plan.numerics, threads=threads)

        found: list[Line] = []
        async with swarm(1) as near:
            for hops in (each for each in HOPS if each <= spec.layer_count):
                progress(f"{hops} hops, {distance.delay * 1e3:g} ms from each other")
                async with swarm(hops) as far, far_apart(far, distance):
                    speeds = await _rounds(plan, near, far, heads)
                found += _lines(distance, hops, speeds, ROW_NUMBER_BYTES * spec.hidden)
    return found


async def _rounds(plan: Plan, near: BenchSwarm, far: BenchSwarm, heads: Heads) -> dict[str, list[Speed]]:
    """One worker close by, the chain, and the chain by way of the client, in turns. Raises LocalFault."""
    speeds: dict[str, list[Speed]] = {"near": [], "direct": [], "client": []}
    for _ in range(plan.rounds):
        turns = {"near": (near, True), "direct": (far, True), "client": (far, False)}
        said = set()
        for name, (swarm, direct) in turns.items():
            swarm.direct = direct
            measured = await one_session(swarm, heads, plan.tokens)
            speeds[name].append(measured.speed)
            said.add(measured.ids)
        if len(said) != 1:
            raise LocalFault("chains over long links gave different tokens")
    return speeds


@asynccontextmanager
async def far_apart(swarm: BenchSwarm, distance: Distance) -> AsyncIterator[None]:
    """A relay stands before each worker, and its record names that. Raises LocalFault."""
    targets = [f"{place.host}:{place.data}" for worker in swarm.workers for place in worker.record.addresses]
    words = ("-P", "-m", "swarm.bench.wan.relay", str(distance.delay), str(distance.rate), *targets)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(RELAY_SECONDS):
            ports = (await process.stdout.readline()).split()
        if len(ports) != len(swarm.workers):
            raise LocalFault("the relay for long links did not start")
        for worker, port in zip(swarm.workers, ports, strict=True):
            worker.record = replace(worker.record, addresses=(Address(HOST, int(port), 0, 0),))
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _lines(distance: Distance, hops: int, speeds: Mapping[str, Sequence[Speed]], row_bytes: int) -> list[Line]:
    chunks = -(-PROMPT_ROWS // CHUNK_ROWS)
    near, found = speeds["near"], []
    for way, name in (("direct", "direct"), ("client", "through the client")):
        direct = way == "direct"
        decoded = [each.decode for each in speeds[way]]
        bound = [1 / distance.token_seconds(hops, 1 / one.decode, row_bytes, direct=direct) for one in near]
        beside = (Ratio.between("the bound", decoded, bound, percent=True),)
        found.append(Line(f"decode, {hops} hops, {name}", "tokens/s", Spread.of(decoded), beside))
        taken = [each.prompt for each in speeds[way]]
        least = [
            PROMPT_ROWS
            / distance.prompt_seconds(hops, PROMPT_ROWS / one.prompt, CHUNK_ROWS * row_bytes, chunks, 1, direct=direct)
            for one in near
        ]
        beside = (Ratio.between("the bound", taken, least, percent=True),)
        found.append(Line(f"prompt of {PROMPT_ROWS}, {hops} hops, {name}", "tokens/s", Spread.of(taken), beside))
    return found
