"""What a node must know of a model before it loads any of it, found out by asking the library instead of reading its code.

The model without weights is run twice, from ids and from rows, with stand-ins for its layers. They must be asked one after
another, each for what came of the one before, and be given nothing else that is made of a row or of weights outside of the
layers: then the rows between two layers are all that a peer has to send. What does not fit is a ModelFault that says what.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from swarm.engine.backends.library.anatomy import CPU, Anatomy, Call, Enough, fill_with_nothing, read_anatomy
from swarm.engine.backends.library.cache import Elsewhere
from swarm.engine.caches.kv_cache import pages_of
from swarm.engine.numerics import precision_named
from swarm.errors import ModelFault
from swarm.model.spec import CONFIG_FILE
from swarm.span import LayerSpan

PROBE_ROWS = 3
DEFAULT_POSITIONS = 2048  # of models that state no limit
LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")
FOLLOWING = ("dynamic", "longrope")  # ropes whose frequencies follow the longest call so far: nobody else's may matter


@dataclass(frozen=True, slots=True)
class Outline:
    """A model's sizes. Rows travel between layers as [rows, hidden]."""

    architecture: str
    layer_count: int
    hidden: int
    vocab: int
    max_positions: int
    layer_weights: tuple[int, ...]  # numbers that each layer has
    layer_tables: tuple[int, ...]  # bytes of each layer that the precision does not change
    row_numbers: tuple[int, ...]  # that each layer keeps of a row
    head_weights: int  # numbers before and after the layers
    in_tuples: bool  # how layers hand on rows, as `Anatomy` has it
    source: str  # its config, as complaints name it

    @property
    def span(self) -> LayerSpan:
        """All layers."""
        return LayerSpan(0, self.layer_count)

    @property
    def width(self) -> int:
        return self.hidden

    @property
    def embedding_width(self) -> int:
        return self.hidden

    @property
    def bonds(self) -> tuple[LayerSpan, ...]:
        """Layers that use what others keep are refused when layers are tried."""
        return ()

    @property
    def both_ways(self) -> bool:
        """Rows that see those after them are refused when layers are tried."""
        return False

    def check_span(self, span: LayerSpan, source: str) -> LayerSpan:
        """The span itself. Raises ModelFault when it reaches outside the model."""
        if span.stop > self.layer_count:
            raise ModelFault(f"{source}: layers {span} were asked for, but the model has layers {self.span}")
        return span

    def row_bytes(self, precision: str) -> tuple[int, ...]:
        """The cache of one row in each layer."""
        return tuple(numbers * precision_named(precision).dtype.itemsize for numbers in self.row_numbers)

    def footprint(self, span: LayerSpan, precision: str, cache_rows: int = 0, with_head: bool = False) -> int:
        """Bytes that a stage over `span` takes, with room for `cache_rows` rows of cache."""
        weights = sum(self.layer_weights[layer] for layer in span) + (self.head_weights if with_head else 0)
        row_bytes = self.row_bytes(precision)
        others = sum(self.layer_tables[layer] + row_bytes[layer] * pages_of(cache_rows) for layer in span)
        return weights * precision_named(precision).dtype.itemsize + others


def read_outline(directory: Path) -> Outline:
    """Raises ModelFault naming config.json and what of the model does not fit."""
    anatomy = read_anatomy(Path(directory), torch.float32)
    source = str(Path(directory) / CONFIG_FILE)
    _check_kinds(anatomy)
    layers = [_numbers(layer) for layer in anatomy.layers]
    head = _numbers(anatomy.model) - sum(layers)  # now, while tied weights are one
    calls = _probe(anatomy)
    model, config = anatomy.model, anatomy.model.config
    return Outline(
        architecture=type(model).__name__,
        layer_count=len(anatomy.layers),
        hidden=anatomy.hidden,
        vocab=_vocab(model, source),
        max_positions=_positions(config.get_text_config(decoder=True)),
        layer_weights=tuple(layers),
        layer_tables=tuple(sum(table.nbytes for table in layer.buffers()) for layer in anatomy.layers),
        row_numbers=tuple(_kept(anatomy, layer, call) for layer, call in enumerate(calls)),
        head_weights=head,
        in_tuples=anatomy.in_tuples,
        source=source,
    )


def _numbers(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _vocab(model: Any, source: str) -> int:
    head = model.get_output_embeddings()
    if head is None:
        raise ModelFault(f"{source}: {type(model).__name__} has no head that gives logits")
    return int(head.weight.shape[0])


def _positions(config: Any) -> int:
    stated = [limit for name in LIMITS if type(limit := getattr(config, name, None)) is int and limit > 0]
    limit = stated[0] if stated else DEFAULT_POSITIONS
    return min([limit, *_originals(config, limit)])


def _originals(config: Any, limit: int) -> Iterator[int]:
    """Up to which position the frequencies of such a rope stay as they are."""
    ropes = getattr(config, "rope_parameters", None) or {}
    nested = [each for each in ropes.values() if isinstance(each, Mapping)]
    for rope in [ropes, *nested]:
        if rope.get("rope_type") in FOLLOWING:
            original = rope.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            yield original if type(original) is int and original > 0 else limit


def _check_kinds(anatomy: Anatomy) -> None:
    """Layers whose cache holds every row can be undone row by row; others cannot."""
    try:
        layers = DynamicCache(config=anatomy.model.config).layers
    except Exception as error:  # whatever the library says of kinds that it has no cache for
        raise ModelFault(f"{anatomy.source}: transformers has no cache for this model: {error}") from error
    for layer, kind in enumerate(layers):
        if type(kind) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise ModelFault(
                f"{anatomy.source}: layer {layer} keeps a {type(kind).__name__}, which cannot be undone row by row"
            )


def _probe(anatomy: Anatomy) -> list[Call]:
    """What each layer is given for rows. Sets what the anatomy lacks."""
    anatomy.restore_outside(CPU)
    fill_with_nothing(anatomy.outside(), CPU, learns=True)
    ids = torch.zeros(1, PROBE_ROWS, dtype=torch.int64)
    try:
        from_ids = _calls(anatomy, ids)
        width = anatomy.model.get_input_embeddings().weight.shape[1]
        from_rows = _calls(anatomy, torch.zeros(1, PROBE_ROWS, width, requires_grad=True).clone())
    except ModelFault:
        raise
    except Exception as error:  # whatever the library's code stumbles on
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelFault(f"{anatomy.source}: its layers cannot be found: {said}") from error
    for layer, (one, other) in enumerate(zip(from_ids, from_rows, strict=True)):
        _check_call(anatomy, layer, one, other)
    return from_rows


def _calls(anatomy: Anatomy, given: Tensor) -> list[Call]:
    """Of all layers in their order, each handing on what it is given."""
    for in_tuples in (False, True):
        anatomy.in_tuples = in_tuples
        seen: list[tuple[int, Call]] = []
        handed: list[Tensor] = []
        for layer in anatomy.span:
            anatomy.stand_in(layer, partial(_seen, anatomy, layer, seen, handed))
        try:
            anatomy.run(anatomy.decoder, given, 0, Cache(layers=[Elsewhere() for _ in anatomy.span]))
        except Exception:  # a tuple where the library's code expects none, or none where it expects one
            if in_tuples:
                raise
            continue
        if all(call.rows is rows for (_, call), rows in zip(seen[1:], handed, strict=False)):
            break
    if [layer for layer, _ in seen] != list(anatomy.span):
        raise ModelFault(f"{anatomy.source}: its layers are asked in the order {[layer for layer, _ in seen]}")
    for (layer, call), rows in zip(seen[1:], handed, strict=False):
        if call.rows is not rows:
            raise ModelFault(f"{anatomy.source}: layer {layer} is not given what layer {layer - 1} made, as it is")
    anatomy.hidden = seen[0][1].rows.shape[-1]
    return [call for _, call in seen]


def _seen(anatomy: Anatomy, layer: int, seen: list[tuple[int, Call]], handed: list[Tensor], call: Call) -> Tensor:
    if not isinstance(call.rows, Tensor) or call.rows.shape[:-1] != (1, PROBE_ROWS):
        raise ModelFault(f"{anatomy.source}: layer {layer} is given no rows [1, {PROBE_ROWS}, width]")
    seen.append((layer, call))
    handed.append(call.rows.clone())
    return handed[-1]


def _check_call(anatomy: Anatomy, layer: int, from_ids: Call, from_rows: Call) -> None:
    """That it can be made at another machine, which has the rows and their positions only."""
    one, other = dict(_tensors(from_ids)), dict(_tensors(from_rows))
    for name in sorted(one.keys() ^ other.keys()):
        raise ModelFault(f"{anatomy.source}: layer {layer} is given {name} for ids and not for rows, or the reverse")
    for name, tensor in [*one.items(), *other.items()]:
        if tensor.requires_grad:
            raise ModelFault(
                f"{anatomy.source}: layer {layer} is given {name} beside the rows, which is made of the first "
                f"layer's rows or of weights outside of the layers"
            )


def _tensors(call: Call) -> Iterator[tuple[str, Tensor]]:
    """Beside the rows, by what they are called."""

    def inner(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Mapping):
            for key, each in value.items():
                yield from inner(f"{name}.{key}", each)
        elif isinstance(value, tuple | list):
            for index, each in enumerate(value):
                yield from inner(f"{name}.{index}", each)

    for index, value in enumerate(call.others):
        yield from inner(f"argument {index + 2}", value)
    for name, value in call.named.items():
        yield from inner(name, value)


class _Recorder(Cache):
    """Learns what a layer would keep, and ends its call there: what comes behind may depend on values."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[Elsewhere() for _ in range(layers)])
        self.kept: dict[int, int] = {}  # numbers by layer, of all rows

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *given: Any, **named: Any) -> Any:
        self.kept[layer_idx] = key_states.numel() + value_states.numel()
        raise Enough


def _kept(anatomy: Anatomy, layer: int, call: Call) -> int:
    """The numbers that a layer keeps of each row."""
    recorder, said = _Recorder(len(anatomy.layers)), ""
    for place in ("meta", "cpu"):  # where it looks at values before it keeps any, it is given zeros
        if place == "cpu":
            anatomy.restore_inside(layer, CPU)
            fill_with_nothing(anatomy.inside(layer), CPU)
        there = Call(*(_moved(each, recorder, place) for each in (call.rows, call.others, dict(call.named))))
        said = "it keeps nothing of them"
        try:
            with torch.no_grad():
                anatomy.real(layer, there)
        except Enough:
            break
        except Exception as error:  # whatever the library's code stumbles on
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
    if recorder.kept.keys() != {layer}:
        raise ModelFault(f"{anatomy.source}: what layer {layer} keeps of rows cannot be found out: {said}")
    return math.ceil(recorder.kept[layer] / PROBE_ROWS)


def _moved(value: Any, recorder: Cache, place: str) -> Any:
    """Arguments at another place, the cache exchanged for the recorder."""
    if isinstance(value, Tensor):
        return value.detach().to(place)
    if isinstance(value, Cache):
        return recorder
    if isinstance(value, dict):
        return {key: _moved(each, recorder, place) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_moved(each, recorder, place) for each in value)
    return value
