"""The client that the options mean: which model and which chain, running while something is asked, to its last audit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path

from swarm.cli.answer.output import Output, make_trace
from swarm.cli.answer.request import Request
from swarm.cli.api import api_config, how_to_ask
from swarm.cli.bootstrap import need_bootstrap
from swarm.cli.keys import bans_file, held_identity, known_peers_file
from swarm.cli.models import model_directory, only_model, served_model
from swarm.cli.status.survey import named_peers, survey
from swarm.client import Client
from swarm.config import ApiConfig, AskConfig, NodeConfig
from swarm.engine.backends import open_model
from swarm.identity import Identity, PeerId
from swarm.node import Node
from swarm.node.api import Api
from swarm.node.local_cache import local_cache
from swarm.node.precision import local_precision
from swarm.trace import Trace
from swarm.worker.capacity import measure_capacity

UNTOLD_SECONDS = 1.0  # that an audit of the last answer may take without a word
AUDIT_SECONDS = 15.0  # and then with one


@asynccontextmanager
async def open_client(request: Request, output: Output) -> AsyncIterator[Client]:
    """The client that the options mean, running. Raises SwarmError."""
    trace = make_trace(request.verbose, output)
    if request.local:
        directory = model_directory(request.model or only_model(request.models_dir), request.models_dir)
        local = Client(
            directory,
            local=True,
            cache_bytes=local_cache(request.device),
            choose_precision=local_precision(request.device, request.numerics, output.note),
            precision=request.plan,
            device=request.device,
            backend=request.backend,
            numerics=request.numerics,
            trace=trace,
        )
        api = _api_config(request, directory)
        async with AsyncExitStack() as running:
            await running.enter_async_context(local)
            if api is not None:
                output.note(how_to_ask((await running.enter_async_context(Api(api, mode="local", trace=trace))).url))
            yield local
        return
    need_bootstrap(request.bootstrap)
    with ExitStack() as stack:
        identity = stack.enter_context(held_identity("client", request.key))
        ask = await _ask(request, identity, trace)
        _hint(request, ask, output)
        known = known_peers_file(request.bootstrap, request.swarm_key, os.environ)
        config = NodeConfig(port=0, bootstrap=request.bootstrap, swarm_key=request.swarm_key, known_peers=known)
        api = _api_config(request, ask.model)
        settings = request.client_config()
        async with Node(config, identity, ask=ask, api=api, client_config=settings, trace=trace) as node:
            if node.answers:
                output.note(how_to_ask(node.api.url))
            yield node.client


async def _ask(request: Request, identity: Identity, trace: Trace) -> AskConfig:
    """The model and the peers by hand; the swarm is asked first where the options leave something to it."""
    model = request.model
    peers: tuple[PeerId, ...] = ()
    if model is None or any(len(peer) < 64 for peer in request.named):
        records = await survey(identity, request.bootstrap, request.swarm_key, trace)
        model = model or served_model((record.model for record in records), request.models_dir)
        peers = named_peers(request.named, records)
    elif request.named:
        peers = named_peers(request.named, ())
    directory = model_directory(model, request.models_dir)
    return AskConfig(
        directory,
        precision=request.plan,
        chain=peers,
        device=request.device,
        bans=bans_file(os.environ),
        backend=request.backend,
    )


def _api_config(request: Request, model: str | Path) -> ApiConfig | None:
    return api_config(request.api, request.api_keys, (str(model),), request.models_dir, backend=request.backend)


def _hint(request: Request, ask: AskConfig, output: Output) -> None:
    """One machine would do: say so."""
    if request.named or not request.hint:
        return
    opened = open_model(Path(ask.model), ask.backend)
    spec = opened.spec
    needed = opened.footprint(spec.span, request.plan or opened.own_precision, spec.max_positions, with_head=True)
    free = measure_capacity("cpu", None).memory_free
    if needed < free:
        name = request.model or ask.model
        backend = "" if request.backend == "swarm" else f" --backend {request.backend}"
        output.note(
            f"hint: this model needs {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free here: "
            f"`swarm client --local --model {name}{backend}` would do without a swarm"
        )


async def finish_audits(client: Client, output: Output) -> None:
    """An answer may be drawn for an audit, which begins when it has ended and would end with this process."""
    with suppress(TimeoutError):
        async with asyncio.timeout(UNTOLD_SECONDS):
            await client.auditor.idle()
    if client.auditor.busy:
        output.note("the answer is complete; another worker computes a part of it again, to compare (Ctrl-C leaves)")
        with suppress(TimeoutError):
            async with asyncio.timeout(AUDIT_SECONDS):
                await client.auditor.idle()
