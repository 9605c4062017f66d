"""The commands and their options. Each imports what it needs when it is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from swarm.cli import api, bench, compute, peers, private, service, standalone
from swarm.cli import options as types
from swarm.cli.answer.embed import embed_option
from swarm.cli.bootstrap import wait_option
from swarm.cli.guarded import Guarded
from swarm.cli.imports import lasting
from swarm.config import DEFAULT_PORT, ApiConfig, NodeConfig
from swarm.span import AutoLayers, LayerSpan
from swarm.version import __version__

F = TypeVar("F", bound=Callable[..., Any])

WELCOME = f"""\
swarm runs one language model across many machines, and goes on when they vanish.

  swarm demo                                      see it: a small model on seven processes, one of them killed
  swarm bootstrap                                 start a swarm here, on port {DEFAULT_PORT}
  swarm worker --model DIR --layers 0-11 --bootstrap HOST:PORT
                                                  hold layers 0 to 11 of a model
  swarm client --model DIR --bootstrap HOST:PORT  talk to it
  swarm api --bootstrap HOST:PORT                 let programs ask, as they ask OpenAI; a console in the browser
  swarm status --bootstrap HOST:PORT              who holds what, and which layers nobody holds
  swarm top --bootstrap HOST:PORT                 the same from one second to the next
  swarm doctor --bootstrap HOST:PORT              what is wrong here, and why workers are not used

`swarm COMMAND --help` has the options.
"""


def options(*given: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown in this order."""

    def decorate(function: F) -> F:
        for option in reversed(given):
            function = option(function)
        return function

    return decorate


verbose_option = click.option("-v", "--verbose", is_flag=True, help="Log what happens, on stderr.")
log_option = click.option(
    "--log",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How lines on stderr are written.",
)
bootstrap_option = click.option(
    "--bootstrap",
    "bootstrap",
    type=types.ADDRESS,
    multiple=True,
    envvar="SWARM_BOOTSTRAP",
    show_envvar=True,
    help="A peer of the swarm to join (repeatable).",
)
models_dir_option = click.option(
    "--models-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="SWARM_MODELS",
    show_envvar=True,
    help="Where models are looked up by name.",
)
place_options = options(
    click.option(
        "--host", type=types.HOST, default=NodeConfig().host, show_default=True, help="Numeric address to listen on."
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65534),
        default=DEFAULT_PORT,
        show_default=True,
        help="TCP data and UDP directory; 0: any free one.",
    ),
    click.option("--probe-port", type=click.IntRange(0, 65535), help="UDP probes.  [default: the port after --port]"),
    click.option(
        "--key", type=click.Path(dir_okay=False, path_type=Path), help="Identity key file, created if absent."
    ),
)
node_options = options(
    place_options,
    click.option("--public-host", type=types.HOST, help="Numeric address that others are told.  [default: found out]"),
    click.option(
        "--public-port",
        type=click.IntRange(1, 65534),
        help="Port that others are told, where a router passes it and the next one on.  [default: those listened on]",
    ),
    bootstrap_option,
    wait_option,
    private.swarm_key_option,
    private.allow_option,
    api.api_option,
    api.api_key_option,
    verbose_option,
    log_option,
    click.option("--exit-with-stdin", is_flag=True, hidden=True),
)
sampling_options = options(
    click.option("--temperature", type=click.FloatRange(0), help="0 is greedy.  [default: 0]"),
    click.option("--top-k", type=click.IntRange(1), help="Draw from the K likeliest tokens."),
    click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Draw from the likeliest that make up P."),
    click.option(
        "--min-p", type=click.FloatRange(0, 1), help="Leave out what is less likely than this share of the best."
    ),
    click.option("--repetition-penalty", type=click.FloatRange(0, min_open=True), help="Above 1: shun what was said."),
    click.option("--seed", type=click.IntRange(0), help="Same seed, same answer.  [default: drawn anew]"),
    click.option("--max-tokens", type=click.IntRange(1), help="Length of the answer at most.  [default: 256]"),
    click.option("--stop", multiple=True, metavar="TEXT", help="End before this text (repeatable)."),
    click.option("--stop-id", "stop_ids", multiple=True, type=types.IDS, help="End at these token ids (repeatable)."),
)


@click.group(cls=Guarded, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="swarm %(version)s")
@click.pass_context
def swarm(ctx: click.Context) -> None:
    """One language model across many machines: exact, fault-tolerant, split by layers."""
    if ctx.invoked_subcommand is None:
        click.echo(WELCOME, nl=False)


@swarm.command()
@node_options
@models_dir_option
def bootstrap(**given: Any) -> None:
    """Run a rendezvous point: a swarm of its own, or with --bootstrap one more of an existing swarm.

    Prints `ready HOST:PORT PEER` once it serves.
    """
    from swarm.cli.serve import NodeRequest, run_bootstrap

    run_bootstrap(NodeRequest(**given))


@swarm.command()
@click.option("--model", required=True, help="A directory, a GGUF file or a name; `demo` is the one that comes along.")
@click.option(
    "--layers",
    type=types.LAYERS,
    default="auto",
    show_default=True,
    help="auto: those that the swarm lacks most, as many as fit; auto:20: 20 at most. FIRST-LAST, both included, from 0; or one.",
)
@click.option(
    "--precision",
    type=compute.PRECISION,
    metavar=compute.PRECISION.name,
    default="auto",
    show_default=True,
    help="Of the weights. auto: what the swarm computes in, or as the files hold them, or the highest that fits. Or of each "
    "layer: 0-3=bf16,4-23=int4.",
)
@compute.activations_option
@compute.cache_precision_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--max-memory", type=types.SIZE, help="At most so much memory.  [default: what is free, less a reserve]")
@service.service_options
@compute.backend_option
@compute.numerics_option
@compute.threads_option
@models_dir_option
@node_options
def worker(
    model: str,
    layers: AutoLayers | LayerSpan,
    precision: str,
    activations: str | None,
    cache_precision: str | None,
    device: str,
    max_memory: int | None,
    region: str | None,
    max_clients: int | None,
    move_every: float,
    successor: float,
    backend: str,
    numerics: str,
    threads: int | None,
    **given: Any,
) -> None:
    """Hold layers of a model and compute them for others.

    Prints `ready HOST:PORT PEER` once it serves. Without --bootstrap it starts a swarm that others may join.
    """
    from swarm.cli.models import check_layers, model_directory

    directory = model_directory(model, given["models_dir"])
    span, most = (None, layers.most) if isinstance(layers, AutoLayers) else (layers, len(layers))
    wishes = compute.wishes_of(activations, cache_precision, backend, numerics)
    check_layers(directory, span, precision, backend, wishes)
    with lasting():
        import swarm.node.layers  # noqa: F401
        from swarm.cli.serve import NodeRequest, run_worker
        from swarm.config import SpanConfig

    serve = SpanConfig(directory, span, precision, device, max_memory, backend, numerics, most, wishes)
    config = service.worker_config(region, max_clients, move_every, successor)
    run_worker(NodeRequest(**given), model, serve, threads, config)


@swarm.command()
@click.argument("prompt", required=False)
@embed_option
@click.option(
    "--chain",
    type=types.CHAIN,
    default="auto",
    show_default=True,
    help="auto: a near and quick one, found by the client; shortest: the one of least predicted time among all; or the workers "
    "to use, in order, as `swarm status` names them.",
)
@click.option(
    "--model", help="A directory, a GGUF file or a name; `demo` comes along.  [default: what the swarm serves]"
)
@models_dir_option
@bootstrap_option
@private.swarm_key_option
@click.option("--local", is_flag=True, help="Compute every layer in this process; no swarm.")
@click.option(
    "--precision",
    type=compute.PRECISION,
    metavar=compute.PRECISION.name,
    help="[default: the workers'; with --local as the files hold the weights, or the highest that fits]",
)
@click.option("--device", default="cpu", show_default=True, help="Of the head, and of every layer with --local.")
@compute.backend_option
@compute.numerics_option
@compute.threads_option
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    help="Give up after so many seconds without progress.  [default: 120, and 15 for the first chain]",
)
@peers.session_options
@peers.audit_options
@sampling_options
@click.option("--raw", is_flag=True, help="Go on from PROMPT as it is, without the chat template.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one object at the end: text, ids, chain, timings, recoveries."
)
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), help="Identity key file, created if absent.")
@api.api_option
@api.api_key_option
@verbose_option
def client(**given: Any) -> None:
    """Answer PROMPT, what stdin holds, or both: `cat FILE | swarm client 'summarise'` asks PROMPT, an empty line, the file. Chat
    when there is no PROMPT and stdin is a terminal. Or, with --embed, print vectors of texts.
    """
    from swarm.cli.answer.request import Request

    request = Request(**given)
    request.check()
    from swarm.cli.answer.answer import run_client

    run_client(request)


@swarm.command()
@bootstrap_option
@private.swarm_key_option
@click.option("--why", metavar="PEER", help="Say of this worker alone whether a chain has it, and why not.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@verbose_option
def status(
    bootstrap: tuple[tuple[str, int], ...], swarm_key: bytes | None, why: str | None, as_json: bool, verbose: bool
) -> None:
    """Show peers, their layers and load, and the layers that nobody holds."""
    if why is not None:
        from swarm.cli.doctor.doctor import run_why

        run_why(bootstrap, swarm_key, why, as_json=as_json, verbose=verbose)
        return
    from swarm.cli.status.status import run_status

    run_status(bootstrap, swarm_key, as_json=as_json, verbose=verbose)


@swarm.command()
@click.option("--model", help="Only the workers of the model with this name.  [default: of every model]")
@place_options
@bootstrap_option
@private.swarm_key_option
@api.gateway_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@verbose_option
def doctor(**given: Any) -> None:
    """Say what is wrong with this machine as a node, and of each worker why no chain has it. Ends with 1 if something is."""
    from swarm.cli.doctor.doctor import DoctorRequest, run_doctor

    run_doctor(DoctorRequest(**given))


@swarm.command()
@bootstrap_option
@private.swarm_key_option
@click.option(
    "--every", type=click.FloatRange(0.2, 3600), default=1.0, show_default=True, help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="Print what there is, and leave.")
@click.option("--json", "as_json", is_flag=True, help="For programs: a line each time, with --once only one.")
def top(**given: Any) -> None:
    """Watch peers, their layers, load, memory and faults from one second to the next; q leaves."""
    from swarm.cli.top.top import TopRequest, run_top

    run_top(TopRequest(**given))


@swarm.command("api")
@click.option(
    "--host", type=types.HOST, default=ApiConfig().host, show_default=True, help="Numeric address to listen on."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=ApiConfig().port, show_default=True, help="0: any free one."
)
@api.api_key_option
@click.option(
    "--cors-origin", "origins", multiple=True, metavar="URL", help="A web page's origin that may ask; * is any."
)
@click.option(
    "--special-tokens", is_flag=True, help="Names of special tokens in messages become these tokens, not plain text."
)
@click.option("--model", "models", multiple=True, help="A model to answer for (repeatable).")
@models_dir_option
@bootstrap_option
@wait_option
@private.swarm_key_option
@click.option("--local", is_flag=True, help="Compute every layer in this process; no swarm.")
@click.option("--device", default="cpu", show_default=True, help="Of the heads, and of every layer with --local.")
@compute.backend_option
@compute.numerics_option
@compute.threads_option
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), help="Give up after so many seconds without progress."
)
@peers.session_options
@peers.audit_options
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), help="Identity key file, created if absent.")
@verbose_option
@log_option
def run_api(**given: Any) -> None:
    """Answer programs over HTTP, as OpenAI and Anthropic do, and show the swarm at /.

    Prints `ready URL` once it serves. It answers for --model, for every model in --models-dir, and for the demo.
    """
    from swarm.cli.serve import ApiRequest
    from swarm.cli.serve import run_api as run

    run(ApiRequest(**given))


swarm.add_command(standalone.demo)
swarm.add_command(bench.bench)
swarm.add_command(private.key)
swarm.add_command(peers.peers)
