"""`swarm bootstrap`, `swarm worker` and `swarm api`: run a node until a signal, say on stdout when it serves, drain it, leave."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarm.cli.answer.output import Output, make_trace
from swarm.cli.api import api_config, how_to_ask
from swarm.cli.bootstrap import need_bootstrap, waiting_seconds
from swarm.cli.keys import held_identity, known_peers_file
from swarm.cli.peers import of_sessions
from swarm.cli.private import everybody_allowed
from swarm.config import ApiConfig, ClientConfig, NodeConfig, SpanConfig, WorkerConfig
from swarm.identity import PeerId
from swarm.node import Node
from swarm.node.addresses import only_here
from swarm.transport.tls.sockets import raise_file_limit

if TYPE_CHECKING:
    from swarm.node.api import Api

MAX_FILES = 1 << 16  # that a node asks the system for; it has its own bounds of connections
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """What the command line said of a node that serves others."""

    host: str
    port: int
    probe_port: int | None
    public_host: str | None
    public_port: int | None
    key: Path | None
    bootstrap: tuple[tuple[str, int], ...]
    wait: float | None
    swarm_key: bytes | None = field(repr=False)
    allow: tuple[frozenset[PeerId], ...]
    models_dir: Path | None
    api: tuple[str, int] | None
    api_keys: tuple[str, ...] = field(repr=False)
    verbose: bool
    log: str
    exit_with_stdin: bool

    def config(self) -> NodeConfig:
        return NodeConfig(
            self.host,
            self.port,
            self.probe_port,
            self.public_host,
            self.bootstrap,
            self.public_port,
            self.swarm_key,
            everybody_allowed(self.allow),
            waiting_seconds(self.wait, os.environ),
            known_peers_file(self.bootstrap, self.swarm_key, os.environ),
        )


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """What the command line said of a node that only answers programs."""

    host: str
    port: int
    api_keys: tuple[str, ...] = field(repr=False)
    origins: tuple[str, ...]
    special_tokens: bool
    models: tuple[str, ...]
    models_dir: Path | None
    bootstrap: tuple[tuple[str, int], ...]
    wait: float | None
    swarm_key: bytes | None = field(repr=False)
    local: bool
    device: str
    backend: str
    numerics: str
    threads: int | None
    timeout: float | None
    audit: float
    audit_private: bool
    exact: bool
    exact_class: str | None
    through_client: bool
    standby: bool
    regions: tuple[str, ...]
    max_latency: float | None
    key: Path | None
    verbose: bool
    log: str

    def client_config(self) -> ClientConfig:
        chosen = of_sessions(
            self.exact, self.exact_class, self.through_client, self.standby, self.regions, self.max_latency
        )
        config = ClientConfig(audit_share=self.audit, audit_private=self.audit_private, **chosen)
        return (
            config
            if self.timeout is None
            else replace(config, deadline_seconds=self.timeout, open_seconds=self.timeout)
        )


def run_bootstrap(request: NodeRequest) -> None:
    """Serve until SIGTERM or SIGINT. Raises SwarmError."""
    _run_node("bootstrap", request, None, api_config(request.api, request.api_keys, (), request.models_dir))


def run_worker(
    request: NodeRequest, model: str, serve: SpanConfig, threads: int | None, config: WorkerConfig | None = None
) -> None:
    """Serve until SIGTERM or SIGINT. Raises SwarmError."""
    from swarm.engine import settle_threads

    api = api_config(request.api, request.api_keys, (model,), request.models_dir, backend=serve.backend)
    settle_threads(threads)
    _run_node("worker", request, serve, api, config)


def _run_node(
    mode: str,
    request: NodeRequest,
    serve: SpanConfig | None,
    api: ApiConfig | None,
    config: WorkerConfig | None = None,
) -> None:
    raise_file_limit(MAX_FILES)
    if request.exit_with_stdin:
        threading.Thread(target=_leave_with_stdin, name="stdin", daemon=True).start()
    output = Output()
    trace = make_trace(request.verbose, output, request.log)
    if api is not None:
        _check_place(api)
    with held_identity(mode, request.key) as identity:
        node = Node(
            request.config(), identity, serve=serve, api=api, worker_config=config, trace=trace, progress=output.note
        )
        asyncio.run(_serve(node, output))


def _check_place(api: ApiConfig) -> None:
    """Raises PortInUse, UsageFault."""
    from swarm.gateway.http.server import check_place

    check_place(api.host, api.port, api.option)


def run_api(request: ApiRequest) -> None:
    """Answer programs until SIGTERM or SIGINT. Raises SwarmError."""
    from swarm.engine import settle_threads

    place = (request.host, request.port)
    more: dict[str, Any] = {"origins": request.origins, "device": request.device, "backend": request.backend}
    more |= {"option": "--port", "special_tokens": request.special_tokens, "numerics": request.numerics}
    api = api_config(place, request.api_keys, request.models, request.models_dir, **more)
    if not request.local:
        need_bootstrap(request.bootstrap, here="swarm api --local")
    assert api is not None  # a place was named
    _check_place(api)
    settle_threads(request.threads)
    raise_file_limit(MAX_FILES)
    output = Output()
    trace = make_trace(request.verbose, output, request.log)
    if request.local:
        from swarm.node.api import Api

        asyncio.run(_answer(Api(api, mode="local", trace=trace), output))
        return
    known = known_peers_file(request.bootstrap, request.swarm_key, os.environ)
    config = NodeConfig(
        port=0,
        bootstrap=request.bootstrap,
        swarm_key=request.swarm_key,
        wait_seconds=waiting_seconds(request.wait, os.environ),
        known_peers=known,
    )
    with held_identity("client", request.key) as identity:
        node = Node(
            config,
            identity,
            api=api,
            passive=True,
            client_config=request.client_config(),
            trace=trace,
            progress=output.note,
        )
        asyncio.run(_answer(node, output))


async def _answer(service: Node | Api, output: Output) -> None:
    serving, stop, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()
    loop.set_exception_handler(out_of_files(output.note))
    running = asyncio.create_task(_answer_until(service, serving, stop, output), name="api")

    def stop_asked() -> None:
        stop.set()
        if not serving.is_set():
            running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_asked)
    try:
        await running
    except asyncio.CancelledError:
        if not stop.is_set():
            raise


async def _answer_until(service: Node | Api, serving: asyncio.Event, stop: asyncio.Event, output: Output) -> None:
    async with service:
        serving.set()
        api = service.api if isinstance(service, Node) else service
        click.echo(f"ready {api.url}")
        sys.stdout.flush()
        output.note(how_to_ask(api.url))
        stopping = asyncio.create_task(stop.wait())
        ended, _ = await asyncio.wait({stopping, *api.tasks}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in ended - {stopping}:
            task.result()


async def _serve(node: Node, output: Output) -> None:
    serving, stop = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(_run(node, serving, stop, output), name="node")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(out_of_files(output.note))
    asked = False

    def stop_asked(number: int) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        if serving.is_set():
            stop.set()
            output.note("stopping: running sessions may end (a second signal ends them at once)")
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
            output.note(f"a swarm of its own: others join it with --bootstrap {node.addresses[0]}{_or_by(node)}")
        if node.config.public_host is None and only_here(node.addresses):
            output.note("nobody on another machine can reach this one at 127.0.0.1: say where it is with --public-host")
        if node.answers:
            output.note(how_to_ask(node.api.url))
        await node.wait(stop)
        await node.drain()


def out_of_files(note: Callable[[str], None]) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """An event loop's exception handler: that nobody can be let in is said once, for asyncio finds it out each second."""
    told = False

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in OUT_OF_FILES):
            loop.default_exception_handler(context)
        elif not told:
            told = True
            note(f"connections wait: {error.strerror} (`ulimit -n` says how many files a process may open)")

    return handle


def _or_by(node: Node) -> str:
    """The other addresses that may be the right one, depending on where somebody is."""
    more = [str(address) for address in node.addresses[1:] if not only_here([address])]
    return f" (or {', '.join(more)})" if more else ""


def _leave_with_stdin() -> None:
    """Whoever started this process holds the other end of its stdin: when that end closes, by whatever death, leave at once.

    In a thread, so that it works while the event loop is busy loading.
    """
    while os.read(0, 1 << 12):
        pass
    os._exit(0)
