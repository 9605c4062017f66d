"""`swarm bench`: its options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swarm.cli import compute
from swarm.errors import UsageFault

if TYPE_CHECKING:
    from swarm.bench.against.program import Program
    from swarm.bench.subject import Subject


@click.command()
@click.option(
    "--shape",
    default="llama-1b",
    show_default=True,
    help="Of the model, whose weights are random: llama-1b, or hop (next to nothing to compute: what a hop adds).",
)
@click.option("--model", help="Instead of a shape: a directory, a GGUF file or a name; `demo` comes along.")
@click.option(
    "--precision", type=compute.PLAN, metavar=compute.PLAN.name, help="[default: bf16; with --quality all there are]"
)
@compute.numerics_option
@compute.threads_option
@click.option(
    "--against",
    metavar="llama-bench:PATH|native",
    multiple=True,
    help="llama.cpp's benchmark or torch's kernels, in turns with ours on the same shape or file (repeatable); with --quality "
    "llama-perplexity:PATH.",
)
@click.option(
    "--quality",
    nargs=2,
    metavar="MODEL TEXT",
    help="Not how fast, but how well: bits per byte of a text file, and how often the likeliest token is fp32's.",
)
@click.option(
    "--window",
    type=click.IntRange(8),
    default=512,
    show_default=True,
    help="With --quality: tokens that are read from an empty cache, of which the second half is judged.",
)
@click.option(
    "--windows", type=click.IntRange(1), default=16, show_default=True, help="With --quality: so many at most."
)
@click.option(
    "--wan",
    metavar="DELAY,BANDWIDTH",
    help="Chains of two to six hops whose machines are that far from each other (one way), such as 20ms,100mbit, direct and "
    "through the client, against what the distance allows.",
)
@click.option("--quick", is_flag=True, help="Fewer rounds.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def bench(
    shape: str,
    model: str | None,
    precision: str | None,
    numerics: str,
    threads: int | None,
    against: tuple[str, ...],
    quality: tuple[str, str] | None,
    window: int,
    windows: int,
    wan: str | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Measure this machine: memory, decoding, prompts, chains, sessions, hops, recovery, a worker's memory and start. Takes
    minutes. Each figure stands beside what it is to be compared with, measured in the same run.

    With --quality: what precisions cost a model on a text.
    """
    import asyncio

    from rich.console import Console

    from swarm.bench.against.program import parse_against
    from swarm.bench.figures import lines
    from swarm.bench.plan import PROMPT_ROWS, Plan
    from swarm.bench.run import measure
    from swarm.bench.show import as_object, show_lines
    from swarm.bench.subject import Subject
    from swarm.bench.wan.distance import Distance
    from swarm.bench.wan.run import measure_wan
    from swarm.cli.models import model_directory

    program, native = parse_against(against)
    if quality is not None:
        if native:
            raise UsageFault("--against native: goes without --quality; with it, name --numerics native")
        _judge(*quality, precision, numerics, threads, window, windows, program, as_json)
        return
    subject = Subject.of_shape(shape) if model is None else Subject.of_model(model_directory(model, None))
    kind = _chosen(numerics, precision, subject)
    rounds, tokens = (2, 16) if quick else (4, 32)
    plan = Plan(subject, precision or "bf16", kind, threads, rounds, tokens, program, native)
    if wan is None:
        figures = asyncio.run(measure(plan, _say))
        title, found = figures.title, lines(figures, PROMPT_ROWS)
    else:
        title = f"{subject.name}, {plan.precision}, {kind}, machines {wan} from each other"
        found = asyncio.run(measure_wan(plan, Distance.parse(wan), _say))
    if as_json:
        click.echo(json.dumps({"title": title, "figures": as_object(found)}))
    else:
        show_lines(title, found, Console(highlight=False))


def _judge(
    model: str,
    text: str,
    precision: str | None,
    numerics: str,
    threads: int | None,
    window: int,
    windows: int,
    against: Program | None,
    as_json: bool,
) -> None:
    import asyncio

    from rich.console import Console

    from swarm.bench.quality.run import PRECISIONS, Plan, judge
    from swarm.bench.quality.show import as_object, show_quality
    from swarm.bench.subject import Subject
    from swarm.cli.models import model_directory

    subject = Subject.of_model(model_directory(model, None))
    numerics = _chosen(numerics, precision, subject)
    precisions = PRECISIONS[numerics] if precision is None else (precision,)
    plan = Plan(subject, Path(text), precisions, numerics, threads, window, windows, against)
    quality = asyncio.run(judge(plan, _say))
    if as_json:
        click.echo(json.dumps(as_object(quality)))
    else:
        show_quality(quality, Console(highlight=False))


def _chosen(numerics: str, precision: str | None, subject: Subject) -> str:
    """Whose kernels are measured; why they are torch's is said."""
    from swarm.engine.portable.choice import choose_numerics

    choice = choose_numerics(numerics, precision or "bf16", "cpu", subject.spec)
    if choice.reason is not None:
        _say(f"torch's kernels compute: {choice.reason}")
    return choice.numerics


def _say(text: str) -> None:
    click.echo(f"swarm: {text}", err=True)
