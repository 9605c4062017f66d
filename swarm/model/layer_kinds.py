"""In what the layers of a model differ from each other, as its config.json says it. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.model.config_fields import Fields
from swarm.model.families import Family
from swarm.span import LayerSpan

LAYER_TYPES = ("full_attention", "sliding_attention")
RECURRENT_TYPES = ("full_attention", "linear_attention")
MAX_EXPERTS = 1024
MAX_TAPS = 64
HeadShape = tuple[int, int]  # kv_heads and head_dim


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
    window: int | None = None  # rows that a row sees, itself among them (both ways: half on each side); None: all
    rope: int | None = 0  # which of the model's ropes turns queries and keys; None: none does
    experts: int = 0  # MLPs, of which a router chooses for each row; 0: one MLP and no router
    delta: DeltaShape | None = None  # what stands in the place of attention
    keys_as_values: bool = False  # as they are before norm and rotation
    keys_of: int | None = None  # the layer whose keys and values this one uses; None: it has its own
    inner_times: int = 1  # of the model's inner, the width of the MLP
    unnormed: bool = False  # attention reads rows as they are, whatever other layers' does

    @property
    def row_shape(self) -> HeadShape:
        """Heads and their width of the keys, and of the values, that are kept of a row."""
        return (self.kv_heads, self.head_dim) if self.delta is None and self.keys_of is None else (0, 0)


def read_kinds(
    fields: Fields, family: Family, types: Sequence[str], shapes: Sequence[HeadShape], ropes: int
) -> tuple[LayerKind, ...]:
    """Of each layer."""
    delta = _delta(fields) if family.delta else None
    alike = family.keys_as_values is not None and fields.flag(family.keys_as_values)
    twice = family.sharing_doubles is not None and fields.flag(family.sharing_doubles)
    kinds: list[LayerKind] = []
    for each, shape, experts, keys_of in zip(
        types, shapes, _experts(fields, family, len(types)), _keys_of(fields, family, types), strict=True
    ):
        windowed, recurrent = each == LAYER_TYPES[1], each == RECURRENT_TYPES[1]
        kind = LayerKind(
            *shape,
            window=fields.whole("sliding_window") if windowed else None,
            rope=(ropes - 1 if windowed else 0) if ropes and not recurrent else None,
            experts=experts,
            delta=delta if recurrent else None,
            keys_as_values=alike and not windowed and keys_of is None,
            keys_of=keys_of,
            inner_times=2 if twice and keys_of is not None else 1,
            unnormed=family.first_unnormed and not kinds,
        )
        kinds.append(kind)
    return tuple(kinds)


def bonds_of(kinds: Sequence[LayerKind]) -> tuple[LayerSpan, ...]:
    """Layers that one worker holds all or none of, since one uses the keys and values of another. None overlap."""
    bonds: list[LayerSpan] = []
    for start, stop in sorted(
        (kind.keys_of, layer + 1) for layer, kind in enumerate(kinds) if kind.keys_of is not None
    ):
        if bonds and start < bonds[-1].stop:
            bonds[-1] = LayerSpan(bonds[-1].start, max(stop, bonds[-1].stop))
        else:
            bonds.append(LayerSpan(start, stop))
    return tuple(bonds)


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
        return [*types[:-1], full] if family.last_full else types
    if family.windows == "late":
        first = fields.config["max_window_layers"]
        if type(first) is not int or first < 0:
            raise fields.fault("max_window_layers", f"{first!r} is no number of layers")
        return [sliding if layer >= first else full for layer in range(layers)]
    every = fields.whole("sliding_window_pattern")
    if family.windows == "after_full":
        return [sliding if layer % every else full for layer in range(layers)]
    types = [sliding if (layer + 1) % every else full for layer in range(layers)]
    return [*types[:-1], full] if family.last_full else types


def head_shapes(fields: Fields, family: Family, types: Sequence[str]) -> list[HeadShape]:
    """Of each layer: of all, of those of a type, or as "per_layer_config" states it."""
    heads, hidden = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    kv_heads = family.kv_heads or fields.whole("num_key_value_heads", heads)
    shape = full = (kv_heads, fields.whole("head_dim", hidden // heads))
    stated = fields.config.get("per_layer_config")
    if stated is None and family.full_head_dim:
        alike = family.keys_as_values is not None and fields.flag(family.keys_as_values)
        if alike and family.full_kv_heads:
            kv_heads = fields.whole(family.full_kv_heads, kv_heads)
        full = (kv_heads, fields.whole(family.full_head_dim))
    shapes = [full if each == LAYER_TYPES[0] else shape for each in types]
    if stated is not None:
        shapes = _stated_shapes(fields, stated, shapes)
    for kv_heads, head_dim in shapes:
        if heads % kv_heads:
            raise fields.fault("num_key_value_heads", f"{kv_heads} does not divide the {heads} attention heads")
        if family.rotary and head_dim % 2:
            raise fields.fault("head_dim", f"{head_dim} is odd, but rotary embedding turns pairs")
    return shapes


def _stated_shapes(fields: Fields, stated: object, shapes: list[HeadShape]) -> list[HeadShape]:
    """Those of single layers, above what is said of all."""
    if not isinstance(stated, dict):
        raise fields.fault("per_layer_config", f"{stated!r} is no object")
    shapes = list(shapes)
    for key, said in stated.items():
        if str(key) not in map(str, range(len(shapes))) or not isinstance(said, dict):
            raise fields.fault("per_layer_config", f"{key!r}: {said!r} says nothing of any layer")
        unknown = sorted(set(said) - {"num_key_value_heads", "head_dim"})
        if unknown:
            raise fields.fault("per_layer_config", f"layer {key}: {', '.join(unknown)}: cannot differ by layer here")
        own, layer = Fields(said, f"{fields.source}: per_layer_config of layer {key}"), int(key)
        kv_heads, head_dim = shapes[layer]
        shapes[layer] = (own.whole("num_key_value_heads", kv_heads), own.whole("head_dim", head_dim))
    return shapes


def rope_head_dims(fields: Fields, types: Sequence[str], shapes: Sequence[HeadShape]) -> tuple[int, int]:
    """The head_dim of layers of each of LAYER_TYPES, which share a rope; that of other layers where there are none."""
    dims = [
        {head_dim for each, (_, head_dim) in zip(types, shapes, strict=True) if each == kind} for kind in LAYER_TYPES
    ]
    for kind, found in zip(LAYER_TYPES, dims, strict=True):
        if len(found) > 1:
            raise fields.fault(
                "per_layer_config", f"layers of {kind} have a head_dim of {sorted(found)}: one rope turns one"
            )
    full, sliding = dims
    return next(iter(full or sliding), shapes[0][1]), next(iter(sliding or full), shapes[0][1])


def _keys_of(fields: Fields, family: Family, types: Sequence[str]) -> list[int | None]:
    """For each layer that shares, the last layer of its type among those that do not."""
    if family.sharing_layers is None:
        return [None] * len(types)
    first = len(types) - fields.whole(family.sharing_layers, most=len(types) - 1, least=0)
    sources = {each: layer for layer, each in enumerate(types[:first])}
    missing = set(types[first:]) - set(sources)
    if missing:
        raise fields.fault(family.sharing_layers, f"no layer before layer {first} is of {', '.join(missing)}")
    return [None if layer < first else sources[each] for layer, each in enumerate(types)]


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
