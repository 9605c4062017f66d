"""In what the layers of a model differ from each other, as its config.json says it. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.engine.families import Family
from swarm.engine.fields import Fields

LAYER_TYPES = ("full_attention", "sliding_attention")
RECURRENT_TYPES = ("full_attention", "linear_attention")
MAX_EXPERTS = 1024
MAX_TAPS = 64


@dataclass(frozen=True, slots=True)
class DeltaShape:
    """Of a layer that keeps a state by the gated delta rule."""

    key_heads: int
    value_heads: int  # each key head serves as many of them
    key_dim: int
    value_dim: int
    taps: int  # rows that one of the convolution depends on, itself among them

    @property
    def keys(self) -> int:
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        return self.value_heads * self.value_dim

    @property
    def channels(self) -> int:
        """Of the convolution: queries, keys and values."""
        return 2 * self.keys + self.values


@dataclass(frozen=True, slots=True)
class LayerKind:
    """In what one layer differs from others."""

    kv_heads: int
    head_dim: int
    window: int | None = None  # rows that a row sees, itself among them; None: all before it
    rope: int | None = 0  # which of the model's ropes turns queries and keys; None: none does
    experts: int = 0  # MLPs, of which a router chooses for each row; 0: one MLP and no router
    delta: DeltaShape | None = None  # what stands in the place of attention

    @property
    def row_shape(self) -> tuple[int, int]:
        """Heads and their width of the keys, and of the values, that are kept of a row."""
        return (self.kv_heads, self.head_dim) if self.delta is None else (0, 0)


def read_kinds(
    fields: Fields, family: Family, shape: tuple[int, int], types: list[str], ropes: int
) -> tuple[LayerKind, ...]:
    """Of each layer; `shape` is kv_heads and head_dim."""
    kinds, delta = [], _delta(fields) if family.delta else None
    for each, count in zip(types, _experts(fields, family, len(types)), strict=True):
        windowed = each == LAYER_TYPES[1]
        window = fields.whole("sliding_window") if windowed else None
        rope = (ropes - 1 if windowed else 0) if ropes else None
        if each == RECURRENT_TYPES[1]:
            kinds.append(LayerKind(*shape, None, None, count, delta))
        else:
            kinds.append(LayerKind(*shape, window, rope, count))
    return tuple(kinds)


def _delta(fields: Fields) -> DeltaShape:
    keys, values = fields.whole("linear_num_key_heads"), fields.whole("linear_num_value_heads")
    if values % keys:
        raise fields.fault("linear_num_key_heads", f"{keys} does not divide the {values} value heads")
    dims = fields.whole("linear_key_head_dim"), fields.whole("linear_value_head_dim")
    return DeltaShape(keys, values, *dims, fields.whole("linear_conv_kernel_dim", most=MAX_TAPS))


def layer_types(fields: Fields, family: Family, layers: int) -> list[str]:
    """For each layer one of LAYER_TYPES: as the config lists them, or by the family's rule."""
    full, sliding = LAYER_TYPES
    types = fields.config.get("layer_types")
    if family.delta:
        return _recurrent_types(fields, layers)
    if family.windows == "none" or "sliding_window" not in fields.config:
        return [full] * layers
    if "use_sliding_window" in fields.config and not fields.flag("use_sliding_window"):
        return [full] * layers
    if family.windows == "all":
        return [sliding] * layers
    if types is not None:
        if not isinstance(types, list) or len(types) != layers or any(each not in LAYER_TYPES for each in types):
            raise fields.fault("layer_types", f"must be {layers} out of {', '.join(LAYER_TYPES)}")
        return types
    if family.windows == "late":
        first = fields.config["max_window_layers"]
        if type(first) is not int or first < 0:
            raise fields.fault("max_window_layers", f"{first!r} is no number of layers")
        return [sliding if layer >= first else full for layer in range(layers)]
    every = fields.whole("sliding_window_pattern")
    return [sliding if (layer + 1) % every else full for layer in range(layers)]


def _recurrent_types(fields: Fields, layers: int) -> list[str]:
    types = fields.config.get("layer_types")
    if types is None:
        every = fields.whole("full_attention_interval", 4)
        return [RECURRENT_TYPES[bool((layer + 1) % every)] for layer in range(layers)]
    if not isinstance(types, list) or len(types) != layers or any(each not in RECURRENT_TYPES for each in types):
        raise fields.fault("layer_types", f"must be {layers} out of {', '.join(RECURRENT_TYPES)}")
    return types


def _experts(fields: Fields, family: Family, layers: int) -> list[int]:
    """How many experts each layer has; 0 where it has one MLP."""
    if family.router is None:
        return [0] * layers
    dense = fields.config.get("mlp_only_layers", [])
    if not isinstance(dense, list):
        raise fields.fault("mlp_only_layers", f"{dense!r} is no list of layers")
    count, step = _expert_count(fields), fields.whole("decoder_sparse_step", 1)
    return [0 if layer in dense or (layer + 1) % step else count for layer in range(layers)]


def experts_used(fields: Fields, family: Family) -> int:
    """By each row."""
    if family.router is None:
        return 1
    return fields.whole("num_experts_per_tok", most=_expert_count(fields))


def _expert_count(fields: Fields) -> int:
    newer = "num_local_experts"  # as all families are written by now
    return fields.whole(newer if newer in fields.config else "num_experts", most=MAX_EXPERTS)
