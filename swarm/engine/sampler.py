"""From logits to a token. Every draw is a function of (seed, choice, position) and the logits: nothing else, no state.

The filters and their order are those that transformers applies: repetition penalty, temperature, top-k, top-p, min-p; what
OpenAI's API calls presence and frequency penalty and logit bias comes before the temperature. Sums are in float64 and the draw
inverts the cumulative distribution in the order of token ids. Knows nothing of text or sessions.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from swarm.errors import LocalFault, UsageFault
from swarm.sampling import Sampling

_DOMAIN = b"swarm-draw-1\0"

Weights = NDArray[np.float64]


def sample(
    logits: torch.Tensor,
    sampling: Sampling,
    history: Sequence[int],
    position: int,
    choice: int = 0,
    *,
    answer_start: int | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> int:
    """The id of the next token, from its logits fp32 [vocab].

    `history` holds the ids of prompt and answer so far, the answer's from `answer_start` on (only the penalties look at
    them), `position` is that of the token to choose, and `choice` counts the answers to one prompt. `allowed` [vocab] says
    which ids a constraint leaves. Raises LocalFault if the logits are not finite, UsageFault for a constraint or bias that
    leaves nothing or names what is not there.
    """
    scores: NDArray[np.float32] = logits.detach().to("cpu", torch.float32).numpy()
    likeliest = int(scores.argmax())  # the first of equal ones; the first not-a-number if there is any
    if not math.isfinite(scores[likeliest]):
        raise LocalFault(
            f"the logits for position {position} hold {scores[likeliest]}: no token can be chosen from them"
        )
    if sampling.repetition_penalty != 1.0 and len(history):
        scores = _penalised(scores, history, sampling.repetition_penalty)
    scores = _shifted(scores, sampling, [] if answer_start is None else history[answer_start:])
    if allowed is not None:
        scores = np.where(allowed, scores, np.float32(-np.inf))
    likeliest = int(scores.argmax())
    if not math.isfinite(scores[likeliest]):
        raise UsageFault(f"the constraint leaves no token for position {position}")
    if sampling.greedy:
        return likeliest
    ids, weights = _kept(scores, sampling, float(scores[likeliest]))
    return int(ids[_draw(weights, uniform(sampling.seed, choice, position))])


def log_probabilities(logits: torch.Tensor, token: int, top: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """The natural logarithm of a token's probability, and the `top` likeliest ids with theirs, likeliest first.

    Of the model's own distribution, logits fp32 [vocab], before any penalty, filter or temperature.
    """
    scores = logits.detach().to("cpu", torch.float32).numpy().astype(np.float64)
    highest = scores.max()
    scores = scores - highest - math.log(np.exp(scores - highest).sum())
    top = min(top, scores.size)
    likeliest = np.argpartition(-scores, top - 1)[:top] if top else np.zeros(0, dtype=np.int64)
    ordered = sorted(((int(each), float(scores[each])) for each in likeliest), key=lambda pair: (-pair[1], pair[0]))
    return float(scores[token]), tuple(ordered)


def uniform(seed: int, choice: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits: the beginning of SHA-256 over the three, the same on every machine."""
    counters = struct.pack("<QQQ", seed % (1 << 64), choice, position)
    digest = hashlib.sha256(_DOMAIN + counters).digest()
    return float((int.from_bytes(digest[:8], "little") >> 11) / (1 << 53))


def _penalised(scores: NDArray[np.float32], history: Sequence[int], penalty: float) -> NDArray[np.float32]:
    seen = np.asarray(history, dtype=np.int64)
    scores = scores.copy()
    # All are read before any is written, so an id that occurred twice is not penalised twice.
    old = scores[seen]
    scores[seen] = np.where(old < 0, old * np.float32(penalty), old / np.float32(penalty))
    return scores


def _shifted(scores: NDArray[np.float32], sampling: Sampling, answer: Sequence[int]) -> NDArray[np.float32]:
    """Presence and frequency penalty and bias, as OpenAI's API reference defines them; the same array if there is none."""
    shunning = bool(sampling.presence_penalty or sampling.frequency_penalty) and len(answer) > 0
    if not shunning and not sampling.logit_bias:
        return scores
    scores = scores.copy()
    if shunning:
        ids, counts = np.unique(np.asarray(answer, dtype=np.int64), return_counts=True)
        scores[ids] -= (sampling.presence_penalty + sampling.frequency_penalty * counts).astype(np.float32)
    for token, bias in sampling.logit_bias:
        if token >= scores.size:
            raise UsageFault(f"logit_bias names token {token}; the vocabulary has {scores.size}")
        scores[token] += np.float32(bias)
    return scores


def _kept(scores: NDArray[np.float32], sampling: Sampling, highest: float) -> tuple[NDArray[np.int64], Weights]:
    """The ids that the filters leave, ascending, and their probabilities up to a common factor (the likeliest has 1)."""
    ids = np.arange(scores.size)
    if 0 < sampling.top_k < scores.size:
        place = scores.size - sampling.top_k
        ids = np.flatnonzero(scores >= np.partition(scores, place)[place])
    weights = np.exp((scores[ids].astype(np.float64) - highest) / sampling.temperature)
    keep = np.ones(ids.size, dtype=bool)
    if sampling.top_p < 1.0:
        keep = _nucleus(weights, sampling.top_p)
    if sampling.min_p > 0.0:
        keep &= weights >= sampling.min_p
    return ids[keep], weights[keep]


def _nucleus(weights: Weights, top_p: float) -> NDArray[np.bool_]:
    """The fewest likeliest tokens with a share of `top_p` (Holtzman et al. 2020); of equal ones the lowest ids."""
    descending = np.sort(weights)[::-1]  # values alone: a tenth of the time that sorting the ids with them takes
    reached = np.cumsum(descending)
    count = min(int(np.searchsorted(reached, top_p * reached[-1])) + 1, weights.size)
    lowest = descending[count - 1]
    keep: NDArray[np.bool_] = weights > lowest
    keep[np.flatnonzero(weights == lowest)[: count - int(keep.sum())]] = True
    return keep


def _draw(weights: Weights, share: float) -> int:
    """The first place where the running sum exceeds `share` of the whole; never one whose weight is 0."""
    reached = np.cumsum(weights)
    # share < 1, but the product may be rounded up to the whole.
    target = min(share * reached[-1], np.nextafter(reached[-1], 0.0))
    return int(np.searchsorted(reached, target, side="right"))
