"""From logits to a token. Every draw is a function of (seed, choice, position) and the logits: nothing else, no state.

The filters and their order are those that transformers applies: repetition penalty, temperature, top-k, top-p, min-p; what
OpenAI's API calls presence and frequency penalty and logit bias comes before the temperature. Sums are in float64 and the draw
inverts the cumulative distribution in the order of token ids. Knows nothing of text or sessions.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from swarm.errors import LocalFault, UsageFault

MAX_TEMPERATURE = 1000.0  # hotter ones give the uniform distribution as well
MAX_PENALTY = 1000.0
MAX_BIASED = 1024  # tokens of one logit bias
MOST_BIAS = 100.0
MOST_SHUNNED = 2.0  # presence and frequency penalty, either way
_DOMAIN = b"swarm-draw-1\0"

Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen. Raises UsageFault naming the option that is out of range."""

    temperature: float = 0.0  # 0: the likeliest token, and of equal ones the lowest id
    top_k: int = 0  # only the k likeliest tokens, and those as likely as the last of them; 0: all
    top_p: float = 1.0  # only the likeliest tokens that together have this probability
    min_p: float = 0.0  # only tokens with at least this share of the likeliest one's probability
    repetition_penalty: float = 1.0  # divides (or, below 0, multiplies) the logits of tokens that occurred
    seed: int = 0  # 64 bits; negative ones count as two's complement
    presence_penalty: float = 0.0  # taken off the logits of tokens that the answer holds
    frequency_penalty: float = 0.0  # as above, for each time that the answer holds them
    logit_bias: tuple[tuple[int, float], ...] = ()  # added to the logits of these ids

    def __post_init__(self) -> None:
        hottest, strongest = MAX_TEMPERATURE, MAX_PENALTY
        _check("temperature", self.temperature, lambda x: 0 <= x <= hottest, f"from 0 to {hottest:g}")
        _check("top_k", self.top_k, lambda x: x >= 0, "0 (off) or more, a whole number", whole=True)
        _check("top_p", self.top_p, lambda x: 0 < x <= 1, "above 0 and at most 1")
        _check("min_p", self.min_p, lambda x: 0 <= x <= 1, "from 0 to 1")
        _check(
            "repetition_penalty",
            self.repetition_penalty,
            lambda x: 0 < x <= strongest,
            f"above 0 and at most {strongest:g}",
        )
        _check("seed", self.seed, lambda x: -(1 << 63) <= x < 1 << 64, "a whole number of 64 bits", whole=True)
        for name in ("presence_penalty", "frequency_penalty"):
            _check(
                name, getattr(self, name), lambda x: abs(x) <= MOST_SHUNNED, f"from -{MOST_SHUNNED} to {MOST_SHUNNED}"
            )
        if len(self.logit_bias) > MAX_BIASED:
            raise UsageFault(f"logit_bias names {len(self.logit_bias)} tokens: at most {MAX_BIASED} are taken")
        for token, bias in self.logit_bias:
            _check("a token of logit_bias", token, lambda x: x >= 0, "a token id, a whole number", whole=True)
            _check(
                f"logit_bias of {token}", bias, lambda x: abs(x) <= MOST_BIAS, f"from -{MOST_BIAS:g} to {MOST_BIAS:g}"
            )

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


def _check(option: str, value: Any, good: Callable[[Any], bool], wanted: str, whole: bool = False) -> None:
    """Raises UsageFault unless `value` is a number (a bool is none) of the right kind and `good`; not-a-number never is."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not good(value):
        raise UsageFault(f"{option} must be {wanted}, not {value!r}")


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
