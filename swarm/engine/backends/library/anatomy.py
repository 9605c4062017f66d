"""A decoder-only model of the transformers library without its weights, and where its layers are.

The model is built on torch's meta device: it takes no memory, whatever its config says. Its own forward pass makes masks,
rotary angles and whatever else layers are given; stand-ins in the layers' places see or replace the rows on their way.
Knows nothing of checkpoints.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers import __version__ as version

from swarm.checkpoint.config import read_config
from swarm.engine.backends.library.buffers import restore_buffers
from swarm.errors import ModelFault
from swarm.model.config_fields import MAX_SIZE
from swarm.model.spec import CONFIG_FILE
from swarm.span import MAX_LAYERS, LayerSpan

WIDTHS = ("hidden_size", "vocab_size")
TUPLE_PARTS = 4  # of what a layer hands on where that is a tuple: the rows, then what nobody asked for
CPU = torch.device("cpu")


class Enough(Exception):
    """What was wanted of a forward pass is there; the rest of it need not run."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a layer is given when its turn comes."""

    rows: Tensor  # [1, rows, hidden]
    others: tuple[Any, ...]  # the arguments behind them
    named: Mapping[str, Any]

    @classmethod
    def of(cls, given: Sequence[Any], named: Mapping[str, Any]) -> Call:
        if given:
            return cls(given[0], tuple(given[1:]), named)
        return cls(named["hidden_states"], (), {name: each for name, each in named.items() if name != "hidden_states"})


class Anatomy:
    """A model and its layers. `decoder` is the part of it whose forward pass calls them."""

    def __init__(self, model: Any, decoder: Any, layers: nn.ModuleList, where: str, source: str) -> None:
        self.model = model
        self.decoder = decoder
        self.layers = layers
        self.where = where  # the list's name, with which the names of the layers' weights begin
        self.source = source  # what a complaint begins with
        self.hidden = 0  # a row's width; both are found out by `outline`
        self.in_tuples = False  # a layer hands on a tuple, whose first part are the rows
        self._forwards = [layer.forward for layer in layers]

    @property
    def span(self) -> LayerSpan:
        return LayerSpan(0, len(self.layers))

    @property
    def attention(self) -> str:
        """Which of the library's ways to attend is used."""
        return str(self.model.config._attn_implementation)

    def outside(self) -> Iterator[tuple[str, nn.Module]]:
        """Every module that is neither a layer nor in one, by name."""
        inner = {id(module) for layer in self.layers for module in layer.modules()}
        return ((name, module) for name, module in self.model.named_modules() if id(module) not in inner)

    def inside(self, layer: int) -> Iterator[tuple[str, nn.Module]]:
        """Every module of a layer, by name."""
        yield from self.layers[layer].named_modules(prefix=f"{self.where}.{layer}")

    def restore_outside(self, device: torch.device) -> frozenset[str]:
        """Buffers outside of the layers get their values; the names of those for which there are none."""
        owners = [module for _, module in self.model.named_modules() if isinstance(module, PreTrainedModel)]
        owner_of = {id(inner): owner for owner in owners for inner in owner.modules()}  # the innermost comes last
        return frozenset(
            name
            for entry in self.outside()
            for name in restore_buffers(owner_of[id(entry[1])], [entry], device, self.source)
        )

    def restore_inside(self, layer: int, device: torch.device) -> frozenset[str]:
        """The same for a layer."""
        return restore_buffers(self.decoder, self.inside(layer), device, self.source)

    def put(self, layer: int, forward: Callable[..., Any] | None) -> None:
        """From now on `forward` takes the calls of that layer; None: the layer itself."""
        self.layers[layer].forward = forward or self._forwards[layer]

    def stand_in(self, layer: int, makes: Callable[[Call], Tensor]) -> None:
        """Whoever calls that layer gets the rows that `makes` makes of the call."""

        def forward(*given: Any, **named: Any) -> Any:
            rows = makes(Call.of(given, named))
            return (rows, *[None] * (TUPLE_PARTS - 1)) if self.in_tuples else rows

        self.put(layer, forward)

    def pass_through(self, layers: Sequence[int]) -> None:
        """Those layers hand on what they are given."""
        for layer in layers:
            self.stand_in(layer, lambda call: call.rows)

    def real(self, layer: int, call: Call) -> Any:
        """What the layer itself makes of a call."""
        return self._forwards[layer](call.rows, *call.others, **call.named)

    def run(self, forward: Any, given: Tensor, start: int, past: Any) -> Any:
        """The forward pass of a model or of its decoder, over [1, rows] ids or [1, rows, width] rows from that position on.

        None where it was cut short by Enough.
        """
        name = "inputs_embeds" if given.is_floating_point() else "input_ids"
        named = {name: given, "past_key_values": past, "use_cache": past is not None}
        if "position_ids" in inspect.signature(forward.forward).parameters:
            named["position_ids"] = torch.arange(start, start + given.shape[1], device=given.device)[None]
        try:
            return forward(**named)
        except Enough:
            return None


def fill_with_nothing(modules: Iterator[tuple[str, nn.Module]], device: torch.device, learns: bool = False) -> None:
    """Zeros that take no memory in the place of weights. With `learns`, what is made of them shows it.

    To be called after buffers were restored, since restoring may write to weights.
    """
    for _, module in modules:
        for name, weight in module._parameters.items():
            if weight is not None:
                zeros = torch.zeros((), dtype=weight.dtype, device=device).expand(weight.shape)
                module._parameters[name] = nn.Parameter(zeros, requires_grad=learns and weight.is_floating_point())


def read_anatomy(directory: Path, dtype: torch.dtype) -> Anatomy:
    """The model that config.json describes. Raises ModelFault saying what does not fit."""
    directory = Path(directory)
    source = str(directory / CONFIG_FILE)
    read_config(directory)  # that it is there, of a sane size and an object
    if not (directory / CONFIG_FILE).is_file():
        raise ModelFault(f"{directory}: --backend transformers reads directories with a {CONFIG_FILE}")
    try:
        config = AutoConfig.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
        _check_config(config, source)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    except ModelFault:
        raise
    except Exception as error:  # the library has no error of its own for what a config asks in vain
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelFault(f"{source}: transformers {version} makes no decoder-only model of it: {said}") from error
    if model._is_stateful:
        raise ModelFault(f"{source}: {type(model).__name__} has layers whose state cannot be undone row by row")
    return _found(model.eval().requires_grad_(False), config, source)


def _check_config(config: Any, source: str) -> None:
    """What a few rows are made of must be of a sane size before any are made."""
    text = config.get_text_config(decoder=True)
    sizes = {name: size for name in WIDTHS if type(size := getattr(text, name, None)) is int}
    for name, size in {"num_hidden_layers": text.num_hidden_layers, **sizes}.items():
        most = MAX_LAYERS if name == "num_hidden_layers" else MAX_SIZE
        if type(size) is not int or not 1 <= size <= most:
            raise ModelFault(f"{source}: {name}: {size!r} is no whole number from 1 to {most}")
    if config.is_encoder_decoder:
        raise ModelFault(f"{source}: a {config.model_type} has an encoder beside its decoder")


def _found(model: Any, config: Any, source: str) -> Anatomy:
    """The list of layers is the largest that has as many as the config says."""
    count = config.get_text_config(decoder=True).num_hidden_layers
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if not lists:
        raise ModelFault(f"{source}: {type(model).__name__} has no list of {count} layers")
    where, layers = max(lists, key=lambda found: sum(weight.numel() for weight in found[1].parameters()))
    owners = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, PreTrainedModel) and (not name or where.startswith(f"{name}."))
    ]
    return Anatomy(model, owners[-1][1], layers, where, source)
