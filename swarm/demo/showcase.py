"""`swarm demo`: a swarm of processes on this machine answers, loses a worker in mid-sentence, and answers on.

The claim is checked where it is made: the same prompt goes through the unsplit model in this process, and every token must be
the same. Everything shown is measured in this very run.
"""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from swarm.demo.processes import Child, Processes
from swarm.demo.spans import assigned_spans
from swarm.errors import LocalFault
from swarm.span import LayerSpan
from swarm.trace import Event, Trace

if TYPE_CHECKING:
    from swarm.client import Answer, Options

MODEL = Path(__file__).parent / "model"
LAYERS = int(json.loads((MODEL / "config.json").read_text())["num_hidden_layers"])
PRECISION = "bf16"
THREADS = 1  # of every process: they share the cores; torch's kernels, where ours are not there, need it alike
SEED = 7
TEMPERATURE, TOP_P = 0.7, 0.95
KILL_AFTER = 1 / 3  # of the tokens
DEFAULT_PROMPT = "class Queue:"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process and what it holds."""

    child: Child
    span: LayerSpan

    @property
    def name(self) -> str:
        return self.child.peer_id.short


class Screen(Console):
    """A console that ends as other commands do when nobody reads it any more: rich would exit from within a task."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, "nobody reads what is shown")


class Show:
    """What is printed. Text of the model and what happens around it never share a line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._in_line = False
        self._began = time.perf_counter()

    def line(self, text: str = "", style: str = "") -> None:
        if self._in_line:
            self._console.print()
            self._in_line = False
        self._console.print(
            Text(text, style=style), soft_wrap=not self._console.is_terminal
        )  # terminals: between words

    def step(self, text: str) -> None:
        """What is being done, with the seconds since the beginning."""
        self.line(f"{time.perf_counter() - self._began:5.1f} s  {text}", "dim")

    def text(self, text: str, style: str) -> None:
        """Prompt and answer, as they come."""
        if text:
            self._console.print(Text(text, style=style), end="", soft_wrap=True)
            self._console.file.flush()
            self._in_line = not text.endswith("\n")

    def event(self, event: Event) -> None:
        """A trace listener."""
        details = event.details
        match event.name, event.phase:
            case "session.failover", "started":
                self.line(
                    f"   lost  worker {details['peer']}, layers {details['layers']}: {details['error']}", "yellow"
                )
            case "session.failover", "complete":
                self.line(
                    f"   back  layers {details['layers']} are with {details['to']}: {details['rows']} rows replayed and "
                    f"compared, {details['seconds'] * 1e3:.0f} ms",
                    "bold green",
                )
            case "session.wait", "failed":
                self.line(f"   wait  {details['missing']}", "yellow")


def run_showcase(prompt: str, max_tokens: int, workers: int, console: Console | None = None) -> int:
    """The exit code: 0 if the swarm's tokens are those of the unsplit model, 1 if not. Raises SwarmError."""
    show = Show(console or Screen(highlight=False))
    return asyncio.run(_until_terminated(prompt, max_tokens, workers, show))


async def _until_terminated(prompt: str, max_tokens: int, workers: int, show: Show) -> int:
    """SIGTERM ends it as Ctrl-C does: with every process it started."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await _showcase(prompt, max_tokens, workers, show)
    except asyncio.CancelledError:
        if not terminated:
            raise
        return 128 + signal.SIGTERM
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _showcase(prompt: str, max_tokens: int, workers: int, show: Show) -> int:
    spans = assigned_spans(workers, LAYERS)
    show.line(f"One model of {LAYERS} layers, {len(spans)} workers, every layer held twice.", "bold")
    async with Processes() as processes:
        bootstrap = await processes.start("bootstrap")
        show.step(f"bootstrap  {bootstrap.address}")
        show.step(f"starting {len(spans)} workers; each loads torch, which takes a few seconds")
        began = asyncio.create_task(asyncio.to_thread(_load_engine))
        serving = await _all(_start_worker(processes, bootstrap, span, show) for span in spans)
        await began
        split = await _split_run(prompt, max_tokens, bootstrap, serving, show)
    unsplit = await _unsplit_run(prompt, max_tokens, show)
    return compare(split, unsplit, show)


async def _all(works: Iterable[Coroutine[Any, Any, Worker]]) -> list[Worker]:
    """Their results; when one fails the others are given up."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _load_engine() -> None:
    """While the workers load theirs."""
    from swarm import client, engine

    assert client
    engine.settle_threads(THREADS)


async def _start_worker(processes: Processes, bootstrap: Child, span: LayerSpan, show: Show) -> Worker:
    child = await processes.start(
        *("worker", "--model", str(MODEL), "--layers", str(span), "--bootstrap", bootstrap.address),
        *("--precision", PRECISION, "--device", "cpu", "--threads", str(THREADS)),
    )
    held = "".join("█" if layer in span else "·" for layer in range(LAYERS))
    show.step(f"worker     {child.address}  {child.peer_id.short}  {held}  {span}")
    return Worker(child, span)


def _options(max_tokens: int) -> Options:
    """Seeded sampling: greedy text repeats itself, and a failover must not shift the draws either."""
    from swarm.client import Options
    from swarm.sampling import Sampling

    return Options(
        max_tokens=max_tokens,
        sampling=Sampling(temperature=TEMPERATURE, top_p=TOP_P, seed=SEED),
        ignore_eos=True,
    )


async def _split_run(
    prompt: str, max_tokens: int, bootstrap: Child, workers: Sequence[Worker], show: Show
) -> list[int]:
    """The answer over the swarm, with a worker of its chain killed on the way. The token ids."""
    from swarm.client import Client

    host, _, port = bootstrap.address.rpartition(":")
    async with Client(MODEL, bootstrap=[(host, int(port))], precision=PRECISION, trace=Trace(show.event)) as client:
        answer = client.generate(prompt, raw=True, options=_options(max_tokens))
        began = time.perf_counter()
        show.step(f"asking for {max_tokens} tokens, drawn at temperature {TEMPERATURE} with seed {SEED}\n")
        show.text(prompt, "bold")
        async for token in answer:
            show.text(token.text, "cyan")
            if token.index + 1 == max(1, int(max_tokens * KILL_AFTER)):
                _kill_one(answer, workers, token.index + 1, show)
        seconds = time.perf_counter() - began
    show.line()
    recoveries = getattr(answer.session, "recoveries", [])
    if not recoveries:
        raise LocalFault("a worker of the chain was killed and the session did not notice: please report this")
    show.step(
        f"{len(answer.token_ids)} tokens in {seconds:.1f} s, the longest pause {answer.timings.longest_gap * 1e3:.0f} ms, "
        f"of which the recovery took {recoveries[0].seconds * 1e3:.0f} ms"
    )
    return answer.token_ids


def _kill_one(answer: Answer, workers: Sequence[Worker], tokens: int, show: Show) -> None:
    """SIGKILL for the worker in the middle of the chain."""
    hops = answer.session.chain.hops  # type: ignore[union-attr]
    chain = " → ".join(f"{hop.peer_id.short} ({hop.span})" for hop in hops)
    victim = hops[len(hops) // 2]
    worker = next(worker for worker in workers if worker.child.peer_id == victim.peer_id)
    show.line(f"   chain {chain}", "dim")
    show.line(f"   kill  SIGKILL to worker {worker.name}, layers {victim.span}, after token {tokens}", "bold red")
    worker.child.kill()


async def _unsplit_run(prompt: str, max_tokens: int, show: Show) -> list[int]:
    """The same prompt through the whole model in this process."""
    from swarm.client import Client

    async with Client(MODEL, local=True, precision=PRECISION) as client:
        began = time.perf_counter()
        answer = client.generate(prompt, raw=True, options=_options(max_tokens))
        await answer.read()
    show.step(
        f"the same in one process, unsplit: {len(answer.token_ids)} tokens in {time.perf_counter() - began:.1f} s"
    )
    return answer.token_ids


def compare(split: Sequence[int], unsplit: Sequence[int], show: Show) -> int:
    if list(split) == list(unsplit):
        show.line(f"Equal: all {len(split)} tokens are the unsplit model's, bit for bit.", "bold green")
        return 0
    differing = next((i for i, pair in enumerate(zip(split, unsplit, strict=False)) if pair[0] != pair[1]), None)
    where = "their number differs" if differing is None else f"first at token {differing + 1}"
    show.line(f"Different: the swarm's tokens are not the unsplit model's ({where}). Please report this.", "bold red")
    return 1
