"""What a model is, read from its config.json: sizes, rotary embedding, tensor names and shapes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from swarm.errors import ModelFault
from swarm.model.config_fields import Fields
from swarm.model.families import FAMILIES, Family
from swarm.model.layer_kinds import (
    LayerKind,
    bonds_of,
    experts_used,
    head_shapes,
    layer_types,
    read_kinds,
    rope_head_dims,
)
from swarm.model.rotary import Rope, check_ropes, read_ropes
from swarm.model.variants import variant_of
from swarm.span import MAX_LAYERS, LayerSpan, held_in_part

CONFIG_FILE = "config.json"
TIED = "tie_word_embeddings"
ACTIVATIONS: Mapping[str, str] = {  # as configs call them -> as they are called here
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_pytorch_tanh",
    "gelu_new": "gelu_pytorch_tanh",
    "gelu_fast": "gelu_pytorch_tanh",
    "gelu_python_tanh": "gelu_pytorch_tanh",
    "relu": "relu",
}


ID_DIGITS = 3  # numbers at the end of a row that stand for its token's id, where layers need it


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder's shape. Rows travel between layers as [rows, width]."""

    family: Family
    layer_count: int
    hidden: int
    heads: int
    inner: int  # width between the two linear layers of the MLP
    vocab: int
    embedding_width: int
    max_positions: int
    pad_id: int | None  # positions count the other ids, from the row of their table behind this one's; None: all ids
    token_width: int  # of what each layer takes of a row's token itself; 0: nothing
    token_types: int  # rows of their table; 0: there is none
    experts_used: int  # for each row, in layers that have experts
    expert_inner: int
    shared_inner: int  # of the expert that all rows go through; 0: there is none
    shares_sum_to_one: bool  # those of the experts that are used
    norm_eps: float
    activation: str
    activation_slope: float | None
    gate_limit: float | None  # of what the MLPs' two halves are bounded by
    ropes: tuple[Rope, ...]
    kinds: tuple[LayerKind, ...]  # of each layer
    parallel: bool  # attention and MLP read the same rows
    attention_scale: float | None  # of products of queries and keys; None: head_dim ** -0.5
    scale_by_depth: bool  # in layer n they are divided by n + 1 besides
    attention_softcap: float | None  # products of queries and keys stay between this and its negative
    logit_softcap: float | None  # logits likewise
    embedding_scale: float  # of rows before the first layer
    residual_scale: float  # of what attention and MLP add to a row
    logit_divisor: float
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    router_bias: bool
    expert_bias: bool
    tied: bool  # the head is the embedding
    bos_id: int | None
    eos_ids: tuple[int, ...]  # any of them ends an answer

    @property
    def architecture(self) -> str:
        return self.family.architecture

    @property
    def both_ways(self) -> bool:
        """A row sees those after it too: a text goes through at once, nothing is cached, and nothing is generated."""
        return self.family.both_ways

    @property
    def width(self) -> int:
        """Of rows as they travel between layers: with their tokens' ids, where layers need them."""
        return self.hidden + (ID_DIGITS if self.token_width else 0)

    @property
    def rope_widths(self) -> tuple[int, ...]:
        """For each rope the width of the heads that it turns."""
        widths = {kind.rope: kind.head_dim for kind in self.kinds}
        return tuple(widths.get(rope, self.kinds[0].head_dim) for rope in range(len(self.ropes)))

    @property
    def span(self) -> LayerSpan:
        """All layers."""
        return LayerSpan(0, self.layer_count)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], source: str = CONFIG_FILE, ends: Sequence[int] = ()) -> ModelSpec:
        """Those of `ends` that are within the vocabulary stand above the config's own. Raises ModelFault naming `source`
        and the field."""
        return _spec(config, source, ends)

    @property
    def bonds(self) -> tuple[LayerSpan, ...]:
        """Layers that one worker holds all or none of."""
        return bonds_of(self.kinds)

    def check_span(self, span: LayerSpan, source: str) -> LayerSpan:
        """The span itself. Raises ModelFault when it reaches outside the model, or cuts where that is impossible."""
        if span.stop > self.layer_count:
            raise ModelFault(f"{source}: layers {span} were asked for, but the model has layers {self.span}")
        bond = held_in_part(span, self.bonds)
        if bond is not None:
            raise ModelFault(f"{source}: {self._cut(span, bond)}")
        return span

    def _cut(self, span: LayerSpan, bond: LayerSpan) -> str:
        """Why a span that holds a part of a bond cannot be served, and what can."""
        boundary = span.start if bond.start < span.start else span.stop
        user, used = next(
            (layer, kind.keys_of)
            for layer, kind in enumerate(self.kinds)
            if kind.keys_of is not None and kind.keys_of < boundary <= layer
        )
        return (
            f"layers {span} cannot be served: between layers {boundary - 1} and {boundary} this model cannot be cut, since "
            f"layer {user} uses the keys and values of layer {used}. Ask for all of layers {bond} or for none of them"
        )


def _spec(config: Mapping[str, Any], source: str, ends: Sequence[int]) -> ModelSpec:
    family = _family(Fields(config, source))
    stated = Fields(_flat(config, source, family.spellings), source, family.spellings)
    check_ropes(stated)
    fields = stated.over(family.defaults)
    family = variant_of(family, fields)
    hidden, heads = fields.whole("hidden_size"), fields.whole("num_attention_heads")
    vocab = fields.whole("vocab_size")
    layers = fields.whole("num_hidden_layers", most=MAX_LAYERS)
    types = layer_types(fields, family, layers)
    shapes = head_shapes(fields, family, types)
    ropes = read_ropes(fields, family.local_theta, rope_head_dims(fields, types, shapes)) if family.rotary else ()
    pad_id = fields.whole("pad_token_id", most=vocab - 1, least=0) if family.positions_after_pad else None
    return ModelSpec(
        family=family,
        layer_count=layers,
        hidden=hidden,
        heads=heads,
        inner=fields.whole("intermediate_size", family.inner_per_hidden and family.inner_per_hidden * hidden),
        vocab=vocab,
        embedding_width=fields.whole(family.embedding_width, hidden) if family.embedding_width else hidden,
        max_positions=min([_positions(fields, pad_id), *(r.most_positions for r in ropes if r.most_positions)]),
        pad_id=pad_id,
        token_width=_token_width(fields, family, vocab),
        token_types=fields.whole("type_vocab_size") if family.token_types else 0,
        experts_used=experts_used(fields, family),
        expert_inner=fields.whole(family.expert_inner) if family.router else 1,
        shared_inner=fields.whole(family.shared_inner) if family.shared_expert else 0,
        shares_sum_to_one=fields.flag(family.shares_sum_to_one) if family.router else False,
        norm_eps=fields.number(family.norm_eps),
        activation=ACTIVATIONS[fields.choice(family.activation, tuple(ACTIVATIONS))],
        activation_slope=fields.number(family.activation_slope) if family.activation_slope else None,
        gate_limit=fields.number(family.gate_limit) if family.gate_limit else None,
        ropes=ropes,
        kinds=read_kinds(fields, family, types, shapes, len(ropes)),
        parallel=fields.flag(family.parallel),
        attention_scale=_attention_scale(fields, family),
        scale_by_depth=fields.flag(family.scale_by_depth),
        attention_softcap=fields.optional("attn_logit_softcapping") if family.softcaps else None,
        logit_softcap=fields.optional("final_logit_softcapping") if family.softcaps else None,
        embedding_scale=_embedding_scale(fields, family, hidden),
        residual_scale=fields.number(family.residual_scale) if family.residual_scale else 1.0,
        logit_divisor=fields.number(family.logit_divisor) if family.logit_divisor else 1.0,
        qkv_bias=fields.flag(family.qkv_bias),
        output_bias=fields.flag(family.output_bias),
        mlp_bias=fields.flag(family.mlp_bias),
        router_bias=fields.flag(family.router_bias),
        expert_bias=fields.flag(family.expert_bias),
        tied=fields.flag(TIED),
        bos_id=fields.ids("bos_token_id", vocab)[0] if fields.ids("bos_token_id", vocab) else None,
        eos_ids=tuple(each for each in ends if 0 <= each < vocab) or fields.ids("eos_token_id", vocab),
    )


def _family(fields: Fields) -> Family:
    architectures, model_type = fields.config.get("architectures") or [], fields.config.get("model_type")
    for architecture in architectures if isinstance(architectures, list) else []:
        if isinstance(architecture, str) and architecture in FAMILIES:
            return FAMILIES[architecture]
    if not architectures:
        for family in FAMILIES.values():
            if family.model_type == model_type:
                return family
    stated = f"{architectures or model_type!r} is not known here"
    raise fields.fault("architectures", f"{stated}{_other_backend()}; {_known(model_type)}")


def _known(model_type: Any) -> str:
    """What might have been meant: the classes of this model type, or else all model types."""
    classes = [name for name, family in FAMILIES.items() if family.model_type == model_type]
    if classes:
        return f"known of model_type {model_type}: {', '.join(sorted(classes))}"
    return f"known model types: {', '.join(sorted({family.model_type for family in FAMILIES.values()}))}"


def _other_backend() -> str:
    """What may run an architecture that is not known here, if it is installed."""
    if find_spec("transformers") is None:
        return ""
    return "; `--backend transformers` runs any decoder-only model of that library, more slowly"


def _flat(config: Mapping[str, Any], source: str, spellings: Mapping[str, str]) -> dict[str, Any]:
    """One mapping, under the names used here; what is nested under text_config stands above what is said beside it."""
    nested = config.get("text_config") or {}
    if not isinstance(nested, dict):
        raise Fields(config, source).fault("text_config", f"{nested!r} is no object")
    said = {key: value for key, value in nested.items() if value is not None or key not in config}
    if config.get(TIED) is not None:  # which is said of the whole model
        said[TIED] = config[TIED]
    flat = {**config, **said}
    return {**flat, **{spellings[key]: value for key, value in flat.items() if key in spellings and value is not None}}


def _positions(fields: Fields, pad_id: int | None) -> int:
    """Of one session at most."""
    stated = fields.whole("max_position_embeddings")
    if pad_id is None:
        return stated
    if stated < pad_id + 2:
        raise fields.fault("max_position_embeddings", f"{stated} leave none after pad_token_id {pad_id}")
    return stated - pad_id - 1


def _token_width(fields: Fields, family: Family, vocab: int) -> int:
    tables = family.token_tables
    width = 0 if tables is None else fields.whole(tables.width, least=0)
    if tables is not None and width and fields.whole(tables.vocab) != vocab:
        raise fields.fault(tables.vocab, f"{fields.config[tables.vocab]}, but the vocabulary has {vocab}")
    return width


def _attention_scale(fields: Fields, family: Family) -> float | None:
    if family.attention_width:
        return float(fields.number(family.attention_width) ** -0.5)
    return None if family.attention_scale is None else fields.number(family.attention_scale)


def _embedding_scale(fields: Fields, family: Family, hidden: int) -> float:
    if family.embedding_by_width:
        return float(hidden**0.5)
    return fields.number(family.embedding_scale) if family.embedding_scale else 1.0
