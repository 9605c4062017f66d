"""Options of what computes: precision, threads, whose code."""

from __future__ import annotations

import click

precision_type = click.Choice(["fp32", "bf16", "int8", "int4", "as-stored"])
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
