"""Options of what computes: precision, threads, whose code."""

from __future__ import annotations

import click

from swarm.cli.options import Parsed
from swarm.precision import AUTO, PRECISIONS, Plan


def parse_plan(text: str) -> str:
    """A precision, or ranges of layers with one each; whether these fit a model is seen later. Raises UsageFault."""
    return str(Plan.parse(text))


def parse_precision(text: str) -> str:
    """`auto`, or a plan. Raises UsageFault."""
    return AUTO if text == AUTO else parse_plan(text)


PLAN = Parsed("|".join((*PRECISIONS, "LAYERS=PRECISION,…")), parse_plan)
PRECISION = Parsed(f"{AUTO}|{PLAN.name}", parse_precision)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Threads that compute; part of the numerics class, unless portable.  [default: as many as torch takes]",
)
numerics_option = click.option(
    "--numerics",
    type=click.Choice(["auto", "native", "portable"]),
    default="auto",
    show_default=True,
    help="Whose kernels: swarm's own (portable), which give the same bits on every CPU and with any number of threads, or "
    "torch's (native). auto: portable wherever they compute the model.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["swarm", "transformers"]),
    default="swarm",
    show_default=True,
    help="Who computes: swarm's own engine or, for models it does not know, the transformers library (slower). "
    "A chain of both is not bit-exact.",
)
