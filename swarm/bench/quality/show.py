"""What precisions cost, for people and for programs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from swarm.bench.quality.run import REFERENCE, Quality


def show_quality(quality: Quality, console: Console) -> None:
    """A line for each precision, each beside the reference."""
    first = quality.tallies[REFERENCE]
    table = Table(
        title=f"{quality.name}, {quality.numerics}: {first.tokens} tokens, the second halves of {quality.windows} windows of "
        f"{quality.window}"
    )
    for column in (
        "precision",
        "bits per byte",
        f"to {REFERENCE}",
        "perplexity",
        f"likeliest as in {REFERENCE}",
        "KL, nats",
    ):
        table.add_column(column, justify="left" if column == "precision" else "right")
    for name, tally in quality.tallies.items():
        table.add_row(
            name,
            f"{tally.bits_per_byte:.4f}",
            _loss(tally.bits_per_byte / first.bits_per_byte),
            f"{tally.perplexity:.4f}",
            f"{tally.agreement:.2%}",
            f"{tally.mean_divergence:.5f}",
        )
    other = quality.other
    if other is not None:
        table.add_row("llama.cpp, same file", "", "", f"{other.perplexity:.4f} ± {other.error:.2f}", "", "")
    console.print(table)
    if other is not None:
        beside = ", ".join(
            f"{_loss(other.perplexity / each.perplexity)} to {name}" for name, each in quality.tallies.items()
        )
        console.print(f"llama.cpp's perplexity: {beside}")


def as_object(quality: Quality) -> dict[str, Any]:
    """For JSON."""
    first, other = quality.tallies[REFERENCE], quality.other
    return {
        "model": quality.name,
        "numerics": quality.numerics,
        "window": quality.window,
        "windows": quality.windows,
        "tokens": first.tokens,
        "bytes": first.text_bytes,
        "reference": REFERENCE,
        "precisions": {
            name: {
                "bits_per_byte": tally.bits_per_byte,
                "bits_per_byte_to_reference": tally.bits_per_byte / first.bits_per_byte,
                "perplexity": tally.perplexity,
                "perplexity_to_reference": tally.perplexity / first.perplexity,
                "agreement_with_reference": tally.agreement,
                "divergence_from_reference": tally.mean_divergence,
            }
            for name, tally in quality.tallies.items()
        },
        "llama_perplexity": None if other is None else {"perplexity": other.perplexity, "error": other.error},
    }


def _loss(ratio: float) -> str:
    return f"{ratio - 1:+.2%}"
