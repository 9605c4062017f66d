"""How GGUF files hold layers that keep a state by the gated delta rule: the order of value heads. Knows nothing of torch.

Each key head has several value heads. In config.json's model these stand beside each other; in a file the first ones of all
key heads come first, then the second ones, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

from swarm.checkpoint.gguf.keys import Keys

BY_VALUE = ("attn_qkv", "attn_gate", "ssm_beta", "ssm_alpha", "ssm_conv1d", "ssm_out", "ssm_a", "ssm_dt")
BY_INPUT = "ssm_out"  # whose columns belong to value heads; of all others rows do
DECAYS = "ssm_a"  # which are stored as the negative exponential of what the config's model holds
LOG_DIGITS = 40


@dataclass(frozen=True, slots=True)
class ValueHeads:
    """Of one model."""

    key_heads: int
    values: int  # heads for each key head
    width: int  # of one of them
    key_width: int

    @classmethod
    def of(cls, keys: Keys) -> ValueHeads:
        """Raises ModelFault naming file and key."""
        key_heads, heads = keys.whole("ssm.group_count", least=1), keys.whole("ssm.time_step_rank", least=1)
        inner = keys.whole("ssm.inner_size", least=1)
        if heads % key_heads or inner % heads:
            raise keys.fault("ssm.time_step_rank", f"{heads} heads for {key_heads} key heads, of {inner} in all")
        return cls(key_heads, heads // key_heads, inner // heads, keys.whole("ssm.state_size", least=1))

    def before(self, kind: str) -> int:
        """Rows of queries and keys, which stand before those of values."""
        return 2 * self.key_heads * self.key_width if kind in ("attn_qkv", "ssm_conv1d") else 0

    def each(self, kind: str) -> int:
        """Rows of one value head, or columns."""
        return 1 if kind in ("ssm_beta", "ssm_alpha", "ssm_a", "ssm_dt") else self.width

    def count(self, kind: str) -> int:
        """How many rows such a tensor has, or columns."""
        return self.before(kind) + self.key_heads * self.values * self.each(kind)

    def order(self, kind: str) -> list[int]:
        """Which rows of a stored tensor (or columns) the config's model has one after the other."""
        before, each = self.before(kind), self.each(kind)
        starts = [
            before + (value * self.key_heads + key) * each
            for key in range(self.key_heads)
            for value in range(self.values)
        ]
        return [*range(before), *(start + place for start in starts for place in range(each))]


def logarithms(numbers: Sequence[float]) -> list[float]:
    """Each rounded once from many digits, the same on every machine; of what has none, what is no number."""
    with localcontext() as context:
        context.prec = LOG_DIGITS
        return [
            float(Decimal(number).ln()) if 0 < number < math.inf else -math.inf if number == 0 else number + math.nan
            for number in numbers
        ]
