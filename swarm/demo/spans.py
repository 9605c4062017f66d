"""Who holds what in the showcase. Pure."""

from __future__ import annotations

from itertools import pairwise

from swarm.span import LayerSpan

MIN_WORKERS = 2  # every layer has two replicas


def assigned_spans(workers: int, layer_count: int) -> list[LayerSpan]:
    """A span for each worker such that every layer is held twice: two whole chains, the second of as many hops or one fewer."""
    if workers < MIN_WORKERS:
        raise ValueError(f"two replicas of every layer need {MIN_WORKERS} workers, not {workers}")
    first = min(workers - workers // 2, layer_count)
    second = min(workers // 2, layer_count)
    return [*_evenly(first, layer_count), *_evenly(second, layer_count)]


def _evenly(parts: int, layer_count: int) -> list[LayerSpan]:
    cuts = [layer_count * part // parts for part in range(parts + 1)]
    return [LayerSpan(start, stop) for start, stop in pairwise(cuts)]
