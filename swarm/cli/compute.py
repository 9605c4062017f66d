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
    type=click.Choice(["native", "portable"]),
    help="Whose kernels: torch's, or swarm's own, which give the same bits on every CPU and with any number of threads.  "
    "[default: native; portable for int8, int4 and as-stored]",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["swarm", "transformers"]),
    default="swarm",
    show_default=True,
    help="Who computes: swarm's own engine or, for models it does not know, the transformers library (slower). "
    "A chain of both is not bit-exact.",
)


def numerics_for(precision: str | None, numerics: str | None) -> str:
    """What was asked for, or else what computes in that precision."""
    return numerics or ("portable" if precision in ("int8", "int4", "as-stored") else "native")
