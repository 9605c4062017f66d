"""Commands that bring a swarm of their own: the showcase and the benchmark."""

from __future__ import annotations

import click

from swarm.cli import compute


@click.command()
@click.option("--prompt", help="What the model goes on from.")
@click.option("--max-tokens", type=click.IntRange(4, 1500), default=160, show_default=True)
@click.option("--workers", type=click.IntRange(2, 12), default=6, show_default=True)
def demo(prompt: str | None, max_tokens: int, workers: int) -> None:
    """Start a swarm on this machine, kill a worker in mid-sentence, and compare with the unsplit model."""
    from swarm.demo.showcase import DEFAULT_PROMPT, run_showcase

    raise SystemExit(run_showcase(prompt or DEFAULT_PROMPT, max_tokens, workers))


@click.command()
@click.option(
    "--shape",
    default="llama-1b",
    show_default=True,
    help="Of the model, whose weights are random: llama-1b, or hop (next to nothing to compute: what a hop adds).",
)
@click.option("--precision", type=compute.precision_type, default="bf16", show_default=True)
@compute.numerics_option
@compute.threads_option
@click.option("--quick", is_flag=True, help="Fewer rounds.")
def bench(shape: str, precision: str, numerics: str | None, threads: int | None, quick: bool) -> None:
    """Measure this machine: memory, decoding, prompts, chains, sessions, hops, recovery. Takes minutes."""
    import asyncio

    from rich.console import Console

    from swarm.bench.run import measure, show

    def progress(text: str) -> None:
        click.echo(f"swarm: {text}", err=True)

    kind = compute.numerics_for(precision, numerics)
    figures = asyncio.run(
        measure(shape, precision=precision, numerics=kind, threads=threads, quick=quick, progress=progress)
    )
    show(figures, Console(highlight=False))
