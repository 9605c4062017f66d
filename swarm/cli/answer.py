"""`swarm client`: one answer, streamed, or a chat. Finds the model and the chain that the options mean."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from swarm.cli.api import api_config, how_to_ask
from swarm.cli.keys import bans_file, held_identity, known_peers_file
from swarm.cli.models import model_directory, only_model, served_model
from swarm.cli.output import Output, make_trace
from swarm.cli.report import report
from swarm.cli.survey import named_peers, need_bootstrap, survey
from swarm.client import Answer, Client, Options
from swarm.config import ApiConfig, AskConfig, ClientConfig, NodeConfig
from swarm.engine import settle_threads
from swarm.engine.backends import open_model
from swarm.engine.sampler import Sampling
from swarm.errors import UsageFault
from swarm.identity import Identity, PeerId
from swarm.node import Node
from swarm.node.api import Api
from swarm.trace import Trace
from swarm.worker.capacity import measure_capacity

SEED_BITS = 31  # of a seed drawn anew
UNTOLD_SECONDS = 1.0  # that an audit of the last answer may take without a word
AUDIT_SECONDS = 15.0  # and then with one


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line said. None is not said."""

    prompt: str | None = None
    embed: str | None = None  # a text whose vector is wanted instead of an answer; "-" is each line of stdin
    chain: tuple[str, ...] = ()  # ids or their first digits; empty: automatic
    model: str | None = None
    models_dir: Path | None = None
    bootstrap: tuple[tuple[str, int], ...] = ()
    local: bool = False
    precision: str | None = None
    device: str = "cpu"
    backend: str = "swarm"
    threads: int | None = None
    timeout: float | None = None  # seconds
    audit: float = ClientConfig().audit_share
    audit_private: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: tuple[tuple[int, ...], ...] = ()
    raw: bool = False
    as_json: bool = False
    key: Path | None = None
    swarm_key: bytes | None = field(default=None, repr=False)
    api: tuple[str, int] | None = None  # where programs may ask meanwhile
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    verbose: bool = False
    hint: bool = True  # say so if one machine would do
    drawn_seed: int = field(default_factory=lambda: secrets.randbits(SEED_BITS))

    def options(self) -> Options:
        """Raises UsageFault."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        sampling = Sampling(**given, seed=self.drawn_seed if self.seed is None else self.seed)
        options = Options(sampling=sampling, stop=self.stop, stop_ids=self.stop_ids)
        return options if self.max_tokens is None else replace(options, max_tokens=self.max_tokens)

    def client_config(self) -> ClientConfig:
        config = ClientConfig(audit_share=self.audit, audit_private=self.audit_private)
        if self.timeout is None:
            return config
        return replace(config, deadline_seconds=self.timeout, open_seconds=self.timeout)


def run_client(request: Request) -> None:
    """Raises SwarmError."""
    output = Output()
    settle_threads(request.threads)
    request.options()  # a contradiction is told before anything is loaded
    if request.local and request.chain:
        raise UsageFault("--local computes every layer here and --chain names workers: use one of them")
    if request.embed is not None:
        from swarm.cli.embed import run_embed

        run_embed(request, output)
        return
    if request.prompt is None and sys.stdin.isatty() and not request.as_json:
        from swarm.cli.chat import run_chat

        run_chat(request)
        return
    if request.prompt is None:
        request = replace(request, prompt=_read_prompt())
    asyncio.run(_answer(request, output))


def _read_prompt() -> str:
    try:
        prompt = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageFault(f"stdin is no text: {error}") from error
    if not prompt:
        raise UsageFault("no prompt: stdin is empty, and no PROMPT was given")
    return prompt


async def _answer(request: Request, output: Output) -> None:
    async with open_client(request, output) as client:
        answer = client.generate(request.prompt or "", raw=request.raw, options=request.options())
        await stream(answer, output, silent=request.as_json)
        if request.as_json:
            click.echo(json.dumps(report(answer, client)))
        if not request.local:
            await finish_audits(client, output)


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


async def stream(answer: Answer, output: Output, silent: bool = False) -> None:
    """Write an answer as it comes; whatever ends it early ends the line too."""
    try:
        async for token in answer:
            if not silent:
                output.text(token.text)
    finally:
        await answer.aclose()
        output.end_text()
    if answer.context_full:
        output.note("the answer ends here: the model's context is full")


@asynccontextmanager
async def open_client(request: Request, output: Output) -> AsyncIterator[Client]:
    """The client that the options mean, running. Raises SwarmError."""
    trace = make_trace(request.verbose, output)
    if request.local:
        directory = model_directory(request.model or only_model(request.models_dir), request.models_dir)
        local = Client(
            directory,
            local=True,
            precision=request.precision,
            device=request.device,
            backend=request.backend,
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
    if model is None or any(len(peer) < 64 for peer in request.chain):
        records = await survey(identity, request.bootstrap, request.swarm_key, trace)
        model = model or served_model((record.model for record in records), request.models_dir)
        peers = named_peers(request.chain, records)
    elif request.chain:
        peers = named_peers(request.chain, ())
    directory = model_directory(model, request.models_dir)
    return AskConfig(
        directory,
        precision=request.precision,
        chain=peers,
        device=request.device,
        bans=bans_file(os.environ),
        backend=request.backend,
    )


def _api_config(request: Request, model: str | Path) -> ApiConfig | None:
    return api_config(request.api, request.api_keys, (str(model),), request.models_dir, backend=request.backend)


def _hint(request: Request, ask: AskConfig, output: Output) -> None:
    """One machine would do: say so."""
    if request.chain or not request.hint:
        return
    opened = open_model(Path(ask.model), ask.backend)
    spec = opened.spec
    needed = opened.footprint(spec.span, request.precision or "bf16", spec.max_positions, with_head=True)
    free = measure_capacity("cpu", None).memory_free
    if needed < free:
        name = request.model or ask.model
        backend = "" if request.backend == "swarm" else f" --backend {request.backend}"
        output.note(
            f"hint: this model needs {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free here: "
            f"`swarm client --local --model {name}{backend}` would do without a swarm"
        )
