"""Options of what computes: precision, threads, whose code."""

from __future__ import annotations

import click

precision_type = click.Choice(["fp32", "bf16"])
threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Threads that compute; part of the numerics class.  [default: as many as torch takes]",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["swarm", "transformers"]),
    default="swarm",
    show_default=True,
    help="Who computes: swarm's own engine or, for models it does not know, the transformers library (slower). "
    "A chain of both is not bit-exact.",
)
