"""The command that brings a swarm of its own to be looked at."""

from __future__ import annotations

import click


@click.command()
@click.option("--prompt", help="What the model goes on from.")
@click.option("--max-tokens", type=click.IntRange(4, 1500), default=160, show_default=True)
@click.option("--workers", type=click.IntRange(2, 12), default=6, show_default=True)
def demo(prompt: str | None, max_tokens: int, workers: int) -> None:
    """Start a swarm on this machine, kill a worker in mid-sentence, and compare with the unsplit model."""
    from swarm.demo.showcase import DEFAULT_PROMPT, run_showcase

    raise SystemExit(run_showcase(prompt or DEFAULT_PROMPT, max_tokens, workers))
