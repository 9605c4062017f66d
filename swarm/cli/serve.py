"""`swarm bootstrap` and `swarm worker`: run a node until a signal, say on stdout when it serves, drain it, leave."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import click

from swarm.cli.keys import held_identity, known_peers_file
from swarm.cli.output import Output, make_trace
from swarm.config import NodeConfig, SpanConfig
from swarm.identity import Identity
from swarm.node import Node
from swarm.trace import Trace


def run_node(
    mode: str,
    config: NodeConfig,
    key: Path | None,
    *,
    serve: SpanConfig | None = None,
    threads: int | None = None,
    verbose: bool = False,
    exit_with_stdin: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT. Raises SwarmError."""
    if exit_with_stdin:
        threading.Thread(target=_leave_with_stdin, name="stdin", daemon=True).start()
    output = Output()
    trace = make_trace(verbose, output)
    if serve is not None:
        from swarm.engine import settle_threads

        settle_threads(threads)
    config = replace(config, known_peers=known_peers_file(config.bootstrap, config.swarm_key, os.environ))
    with held_identity(mode, key) as identity:
        asyncio.run(_serve(config, identity, serve, trace, output))


async def _serve(
    config: NodeConfig, identity: Identity, serve: SpanConfig | None, trace: Trace, output: Output
) -> None:
    node = Node(config, identity, serve=serve, trace=trace, progress=output.note)
    serving, stop = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(_run(node, serving, stop, output), name="node")
    loop = asyncio.get_running_loop()
    asked = False

    def stop_asked(number: int) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        if serving.is_set():
            output.note("stopping: no new sessions; running ones may end (a second signal ends them at once)")
            stop.set()
        else:
            running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_asked, number)
    try:
        await running
    except asyncio.CancelledError:
        if not asked:
            raise


async def _run(node: Node, serving: asyncio.Event, stop: asyncio.Event, output: Output) -> None:
    async with node:
        serving.set()
        click.echo(f"ready {node.addresses[0]} {node.peer_id}")
        sys.stdout.flush()
        if not node.config.bootstrap:
            output.note(f"a swarm of its own: others join it with --bootstrap {node.addresses[0]}")
        await node.wait(stop)
        await node.drain()


def _leave_with_stdin() -> None:
    """Whoever started this process holds the other end of its stdin: when that end closes, by whatever death, leave at once.

    In a thread, so that it works while the event loop is busy loading.
    """
    while os.read(0, 1 << 12):
        pass
    os._exit(0)
