"""Options of what computes: precision, threads, whose code."""

from __future__ import annotations

import click

from swarm.cli.options import Parsed
from swarm.errors import UsageFault
from swarm.precision import ACTIVATIONS, AUTO, CACHES, PRECISIONS, Plan, Wishes


def parse_plan(text: str) -> str:
    """A precision, or ranges of layers with one each; whether these fit a model is seen later. Raises UsageFault."""
    return str(Plan.parse(text))


def parse_precision(text: str) -> str:
    """`auto`, or a plan. Raises UsageFault."""
    return AUTO if text == AUTO else parse_plan(text)


PLAN = Parsed("|".join((*PRECISIONS, "LAYERS=PRECISION,…")), parse_plan)
PRECISION = Parsed(f"{AUTO}|{PLAN.name}", parse_precision)
activations_option = click.option(
    "--activations",
    type=click.Choice(ACTIVATIONS),
    help="What rows become for weights that are integers; int16 takes up to twice the computing. Part of the numerics class; "
    "portable only.  [default: what --precision or the swarm says, else int8]",
)
cache_precision_option = click.option(
    "--cache-precision",
    type=click.Choice(CACHES),
    help="Of keys and values; int8 takes little more than half the memory. Part of the numerics class; int8 is portable only.  "
    "[default: what --precision or the swarm says, else as rows between layers: bf16, or fp32 beside weights of fp32]",
)
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
    "torch's (native). auto: portable on CPUs, native on CUDA, where portable ones have not been seen on a GPU yet.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["swarm", "transformers"]),
    default="swarm",
    show_default=True,
    help="Who computes: swarm's own engine or, for models it does not know, the transformers library (slower). "
    "A chain of both is not bit-exact.",
)


def wishes_of(activations: str | None, cache: str | None, backend: str, numerics: str) -> Wishes:
    """Raises UsageFault where those who are to compute cannot do so."""
    wishes = Wishes(activations, cache)
    if (option := wishes.only_portable) is not None:
        if backend != "swarm":
            raise UsageFault(f"{option}: only swarm's own engine computes so, not --backend {backend}")
        if numerics == "native":
            raise UsageFault(
                f"{option}: only --numerics portable computes so, since torch's kernels are not made for it"
            )
    return wishes
