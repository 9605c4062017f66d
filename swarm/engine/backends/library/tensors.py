"""From a checkpoint's tensors to the weights of the library's modules: verified, and only those that are wanted.

Checkpoints may name or divide weights otherwise than the library's modules do (experts one by one, names of older versions,
with or without the base model's prefix). The library's own rules say which stored tensors a weight is made from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

from swarm.checkpoint.manifest import Manifest, Progress
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine.backends.library.anatomy import Anatomy
from swarm.engine.loading.sources import VerifiedSource
from swarm.errors import ModelFault
from swarm.model.tensor_names import Shape


@dataclass(slots=True)
class Recipe:
    """How some weights are made: of one stored tensor as it is, or by a rule of several."""

    makes: list[str]
    rule: Any = None  # a converter of the library's; None: as it is
    parts: list[tuple[str, str]] = field(default_factory=list)  # stored names, each with the pattern that matched it


def load_weights(
    anatomy: Anatomy,
    names: Iterable[str],
    checkpoint: StoredTensors,
    manifest: Manifest,
    device: torch.device,
    progress: Progress | None,
    mapped: frozenset[str] = frozenset(),
) -> None:
    """Put these weights into the model. Those `mapped` stay in the file where dtype and device allow.

    Raises ModelFault naming file and tensor. Nothing is made before all shapes were compared with the files.
    """
    model, names = anatomy.model, set(names)
    wanted = {name: tensor for name, tensor in _state(model).items() if name in names}
    recipes = _recipes(model, wanted, checkpoint)
    for name in wanted.keys() - {made for recipe in recipes.values() for made in recipe.makes}:
        recipes[name] = Recipe([name], parts=[(_direct(model, name, wanted[name], checkpoint), "")])
    shapes = _shapes(recipes, wanted, checkpoint)
    source = VerifiedSource(checkpoint, manifest, shapes, progress)
    for name, recipe in recipes.items():
        for made, tensor in _made(name, recipe, source, shapes, model, anatomy.source).items():
            if made in wanted:
                _put(model, made, tensor, _dtype(model, made, wanted[made]), device, made not in mapped, anatomy.source)


def _state(model: Any) -> dict[str, Tensor]:
    state: dict[str, Tensor] = model.state_dict()
    return state


def _recipes(model: Any, wanted: Mapping[str, Tensor], checkpoint: StoredTensors) -> dict[str, Recipe]:
    """By the library's rules, for those weights of which stored tensors speak by name."""
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    prefix, state = model.base_model_prefix, _state(model)
    recipes: dict[str, Recipe] = {}
    for stored in sorted(checkpoint.file_of, key=dot_natural_key):
        name, pattern = rename_source_key(stored, renamings, converters, prefix, state)
        if name not in state and stored in state:
            name, pattern = stored, None
        rule = by_pattern[pattern] if pattern is not None else None
        makes = [name.replace(rule.target_patterns[0], each, 1) for each in rule.target_patterns] if rule else [name]
        if wanted.keys().isdisjoint(makes):
            continue
        if name not in recipes:
            recipes[name] = Recipe(makes, deepcopy(rule))
        recipes[name].parts.append((stored, pattern or ""))
    return recipes


def _direct(model: Any, name: str, tensor: Tensor, checkpoint: StoredTensors) -> str:
    """The name under which a weight is stored otherwise than as a plain tensor, such as quantised."""
    prefix = f"{model.base_model_prefix}."
    for candidate in (name.removeprefix(prefix), prefix + name):
        with suppress(ModelFault):
            checkpoint.check(candidate, tuple(tensor.shape))
            return candidate
    return name


def _shapes(recipes: Mapping[str, Recipe], wanted: Mapping[str, Tensor], checkpoint: StoredTensors) -> dict[str, Shape]:
    """Of each wanted tensor of the checkpoint: the module's own, or for parts that a rule joins what the file says."""
    shapes: dict[str, Shape] = {}
    for name, recipe in recipes.items():
        for stored, _ in recipe.parts:
            if recipe.rule is None:
                shapes[stored] = tuple(wanted[name].shape)
            else:
                shapes[stored] = checkpoint.file(stored).entries[stored].shape
    return shapes


def _made(
    name: str, recipe: Recipe, source: VerifiedSource, shapes: Mapping[str, Shape], model: Any, what: str
) -> dict[str, Tensor]:
    if recipe.rule is None:
        ((stored, _),) = recipe.parts
        return {name: source.tensor(stored, shapes[stored])}
    rule = deepcopy(recipe.rule)
    for stored, pattern in recipe.parts:
        rule.add_tensor(name, stored, pattern, lambda stored=stored: source.tensor(stored, shapes[stored]))
    try:
        made = rule.convert(name, model=model, config=model.config)
    except ModelFault:
        raise
    except Exception as error:  # whatever the library's rule stumbles on
        raise ModelFault(f"{what}: weight {name} cannot be made of {recipe.parts[0][0]}: {error}") from error
    return {target: each[0] if isinstance(each, list) else each for target, each in made.items()}


def _dtype(model: Any, name: str, tensor: Tensor) -> torch.dtype:
    """The precision's, unless the library keeps that module in fp32 or the module says otherwise."""
    kept = model._keep_in_fp32_modules_strict or ()
    if tensor.is_floating_point() and any(re.search(rf"(^|\.){re.escape(part)}(\.|$)", name) for part in kept):
        return torch.float32
    return tensor.dtype


def _put(
    model: Any, name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device, copied: bool, source: str
) -> None:
    owner, _, key = name.rpartition(".")
    module = model.get_submodule(owner)
    place = module._buffers if key in module._buffers else module._parameters
    if place[key].shape != tensor.shape:
        raise ModelFault(
            f"{source}: weight {name} came out as {list(tensor.shape)}, but the model has {list(place[key].shape)}"
        )
    # A matrix that lies otherwise in memory may take other kernels, so all lie as the module had made them
    there = tensor.to(device=device, dtype=dtype, copy=copied, memory_format=torch.contiguous_format).contiguous()
    place[key] = there if key in module._buffers else nn.Parameter(there, requires_grad=False)
