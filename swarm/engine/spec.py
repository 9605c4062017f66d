"""What a model is, read from its config.json: sizes, rotary embedding, tensor names and shapes. No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.engine.families import FAMILIES, Family
from swarm.errors import ModelFault
from swarm.span import MAX_LAYERS, LayerSpan

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
MAX_CONFIG_BYTES = 4 << 20
MAX_SIZE = 1 << 24  # of one dimension; no known model comes near, and products of two stay far below 2^63
MAX_EOS_IDS = 64
ACTIVATIONS = ("silu",)
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding (Su et al., RoFormer, 2021), perhaps with the frequency scaling of Llama 3.1."""

    kind: str  # "default" or "llama3"
    theta: float
    factor: float = 1.0  # the rest only where kind is "llama3"
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_positions: int = 8192


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder's shape. Rows travel between layers as [rows, hidden]."""

    family: Family
    layer_count: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int  # width between the two linear layers of the MLP
    vocab: int
    max_positions: int
    norm_eps: float
    rope: Rope
    attention_bias: bool
    mlp_bias: bool
    tied: bool  # the head is the embedding
    bos_id: int | None
    eos_ids: tuple[int, ...]  # any of them ends an answer

    @property
    def architecture(self) -> str:
        return self.family.architecture

    @property
    def span(self) -> LayerSpan:
        """All layers."""
        return LayerSpan(0, self.layer_count)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], source: str = CONFIG_FILE) -> ModelSpec:
        """Raises ModelFault naming `source` and the field."""
        return _Reader(config, source).spec()

    def layer_tensors(self, layer: int) -> dict[str, Shape]:
        """The names and shapes of one layer's tensors in the checkpoint."""
        family, prefix = self.family, self.family.layer.format(layer=layer)
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, Shape] = {
            f"{prefix}.{family.attention_norm}.weight": (self.hidden,),
            f"{prefix}.{family.mlp_norm}.weight": (self.hidden,),
        }
        for module, rows, columns, biased in (
            (family.query, queries, self.hidden, self.attention_bias),
            (family.key, keys, self.hidden, self.attention_bias),
            (family.value, keys, self.hidden, self.attention_bias),
            (family.output, self.hidden, queries, self.attention_bias),
            (family.gate, self.inner, self.hidden, self.mlp_bias),
            (family.up, self.inner, self.hidden, self.mlp_bias),
            (family.down, self.hidden, self.inner, self.mlp_bias),
        ):
            shapes[f"{prefix}.{module}.weight"] = (rows, columns)
            if biased:
                shapes[f"{prefix}.{module}.bias"] = (rows,)
        return shapes

    def head_tensors(self) -> dict[str, Shape]:
        """The names and shapes of the embedding, the final norm and, unless tied, the head."""
        shapes: dict[str, Shape] = {
            f"{self.family.embedding}.weight": (self.vocab, self.hidden),
            f"{self.family.final_norm}.weight": (self.hidden,),
        }
        if not self.tied:
            shapes[f"{self.family.head}.weight"] = (self.vocab, self.hidden)
        return shapes

    def check_span(self, span: LayerSpan, source: str) -> LayerSpan:
        """The span itself. Raises ModelFault when it reaches outside the model."""
        if span.stop > self.layer_count:
            raise ModelFault(f"{source}: layers {span} were asked for, but the model has layers {self.span}")
        return span


def read_json(path: Path, limit: int = MAX_CONFIG_BYTES) -> Any:
    """Any JSON file of a model. Raises ModelFault naming the file."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise ModelFault(f"{path}: {size} bytes are more than the {limit} that such a file may have")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFault(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFault(f"{path}: is not valid JSON: {error}") from error


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a model directory. Raises ModelFault naming the file."""
    if not directory.is_dir():
        raise ModelFault(f"{directory}: no such directory; a model is a directory with {CONFIG_FILE} and its weights")
    config = read_json(directory / CONFIG_FILE)
    if not isinstance(config, dict):
        raise ModelFault(f"{directory / CONFIG_FILE}: must hold a JSON object")
    return config


def read_spec(directory: Path) -> ModelSpec:
    """The spec of a model directory; generation_config.json, where there is one, may add ids that end an answer."""
    directory = Path(directory)
    config = read_config(directory)
    if (directory / GENERATION_FILE).exists():
        extra = read_json(directory / GENERATION_FILE)
        if isinstance(extra, dict) and extra.get("eos_token_id") is not None:
            config = {**config, "eos_token_id": extra["eos_token_id"]}
    return ModelSpec.from_config(config, str(directory / CONFIG_FILE))


class _Reader:
    """Reads one config, field by field, so that every complaint names its field."""

    def __init__(self, config: Mapping[str, Any], source: str) -> None:
        self.config = dict(config)
        self.source = source

    def spec(self) -> ModelSpec:
        family = self.family()
        self.config = {**family.defaults, **{key: value for key, value in self.config.items() if value is not None}}
        hidden, heads = self.whole("hidden_size"), self.whole("num_attention_heads")
        kv_heads = self.whole("num_key_value_heads", heads)
        head_dim = self.whole("head_dim", hidden // heads)
        if heads % kv_heads:
            raise self.fault("num_key_value_heads", f"{kv_heads} does not divide the {heads} attention heads")
        if head_dim % 2:
            raise self.fault("head_dim", f"{head_dim} is odd, but rotary embedding turns pairs")
        activation = self.config["hidden_act"]
        if activation not in ACTIVATIONS:
            raise self.fault("hidden_act", f"{activation!r} is not known; known: {', '.join(ACTIVATIONS)}")
        vocab = self.whole("vocab_size")
        return ModelSpec(
            family=family,
            layer_count=self.whole("num_hidden_layers", most=MAX_LAYERS),
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            inner=self.whole("intermediate_size"),
            vocab=vocab,
            max_positions=self.whole("max_position_embeddings"),
            norm_eps=self.number("rms_norm_eps", self.config),
            rope=self.rope(),
            attention_bias=self.flag("attention_bias"),
            mlp_bias=self.flag("mlp_bias"),
            tied=self.flag("tie_word_embeddings"),
            bos_id=self.ids("bos_token_id", vocab)[0] if self.ids("bos_token_id", vocab) else None,
            eos_ids=self.ids("eos_token_id", vocab),
        )

    def fault(self, field: str, complaint: str) -> ModelFault:
        return ModelFault(f"{self.source}: {field}: {complaint}")

    def family(self) -> Family:
        architectures = self.config.get("architectures") or []
        for architecture in architectures if isinstance(architectures, list) else []:
            if isinstance(architecture, str) and architecture in FAMILIES:
                return FAMILIES[architecture]
        if not architectures:
            for family in FAMILIES.values():
                if family.model_type == self.config.get("model_type"):
                    return family
        named = architectures or self.config.get("model_type")
        raise self.fault("architectures", f"{named!r} is not known; known: {', '.join(FAMILIES)}")

    def whole(self, field: str, default: int | None = None, most: int = MAX_SIZE) -> int:
        value = self.config.get(field, default)
        if value is None:
            raise self.fault(field, "is missing")
        if type(value) is not int or not 1 <= value <= most:
            raise self.fault(field, f"{value!r} is no whole number from 1 to {most}")
        return value

    def number(self, field: str, mapping: Mapping[str, Any]) -> float:
        value = mapping.get(field)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
            raise self.fault(field, f"{value!r} is no positive number")
        return float(value)

    def flag(self, field: str) -> bool:
        value = self.config[field]
        if type(value) is not bool:
            raise self.fault(field, f"{value!r} is neither true nor false")
        return value

    def ids(self, field: str, vocab: int) -> tuple[int, ...]:
        value = self.config.get(field, [])
        ids = value if isinstance(value, list) else [value]
        if len(ids) > MAX_EOS_IDS or not all(type(each) is int and 0 <= each < vocab for each in ids):
            raise self.fault(field, f"{value!r} is not within the vocabulary of {vocab}")
        return tuple(ids)

    def rope(self) -> Rope:
        """Both spellings: rope_theta beside rope_scaling, and the newer rope_parameters that holds all of it."""
        spelling = "rope_parameters" if "rope_parameters" in self.config else "rope_scaling"
        scaling = self.config.get(spelling, {})
        if not isinstance(scaling, dict):
            raise self.fault(spelling, f"{scaling!r} is no object")
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        theta = self.number("rope_theta", {**self.config, **scaling})
        if {**self.config, **scaling}.get("partial_rotary_factor", 1.0) != 1.0:
            raise self.fault("partial_rotary_factor", "only whole heads are rotated in this family")
        if kind == "default":
            return Rope("default", theta)
        if kind != "llama3":
            raise self.fault(spelling, f"rope_type {kind!r} is not known; known: default, llama3")
        low, high = self.number("low_freq_factor", scaling), self.number("high_freq_factor", scaling)
        if not low < high:
            raise self.fault(spelling, f"high_freq_factor {high} must exceed low_freq_factor {low}")
        original = self.number("original_max_position_embeddings", scaling)
        return Rope("llama3", theta, self.number("factor", scaling), low, high, int(original))
