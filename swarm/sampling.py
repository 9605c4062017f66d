"""How the next token is drawn: what a caller may choose, each within its bounds. Draws nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from swarm.errors import UsageFault

MAX_TEMPERATURE = 1000.0  # hotter ones give the uniform distribution as well
MAX_PENALTY = 1000.0
MAX_BIASED = 1024  # tokens of one logit bias
MOST_BIAS = 100.0
MOST_SHUNNED = 2.0  # presence and frequency penalty, either way


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
