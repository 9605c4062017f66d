"""What stages and heads have in common: a model of which some modules have weights, and the rest takes no memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import __version__ as version

from swarm.checkpoint.manifest import Manifest, Progress, read_manifest
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine.backends.library.anatomy import Anatomy, fill_with_nothing, read_anatomy
from swarm.engine.backends.library.outline import Outline
from swarm.engine.backends.library.tensors import load_weights
from swarm.engine.numerics import MAX_CLASS_BYTES, Precision, numerics_class
from swarm.errors import ModelFault


def numerics_of(anatomy: Anatomy, precision: Precision, device: torch.device) -> str:
    """The numerics class: its own, for the library computes neither in our kernels nor in our order."""
    own = f"transformers{version}-{anatomy.attention}"
    return f"{numerics_class(precision, device)[: MAX_CLASS_BYTES - len(own) - 1]}/{own}"


def manifest_of(directory: Path, outline: Outline, progress: Progress | None = None) -> Manifest:
    return read_manifest(directory, progress, outline.layer_count)


def anatomy_of(directory: Path, outline: Outline, precision: Precision) -> Anatomy:
    """As the outline found it."""
    anatomy = read_anatomy(directory, precision.dtype)
    anatomy.in_tuples, anatomy.hidden = outline.in_tuples, outline.hidden
    return anatomy


def load_layers(
    anatomy: Anatomy,
    layers: Iterable[int],
    checkpoint: StoredTensors,
    manifest: Manifest,
    device: torch.device,
    progress: Progress | None,
) -> None:
    """Weights for these layers, and zeros outside. Raises ModelFault naming file and tensor."""
    anatomy.restore_outside(device)
    fill_with_nothing(anatomy.outside(), device)
    lacking = frozenset[str]()
    for layer in layers:
        lacking |= anatomy.restore_inside(layer, device)
    state = anatomy.model.state_dict().keys()
    names = {name for layer in layers for name in state if name.startswith(f"{anatomy.where}.{layer}.")}
    load_weights(anatomy, names, checkpoint, manifest, device, progress)
    _check(anatomy, lacking - names)


def load_outside(
    anatomy: Anatomy, checkpoint: StoredTensors, manifest: Manifest, device: torch.device, progress: Progress | None
) -> None:
    """Weights for what comes before and after the layers. Raises ModelFault naming file and tensor.

    An embedding that only rows are looked up in stays in its file. What is multiplied with is copied: bits may depend on
    where in memory a matrix begins.
    """
    lacking = anatomy.restore_outside(device)
    model = anatomy.model
    tied = {} if not model.all_tied_weights_keys else dict(model.all_tied_weights_keys)
    names = {name for name in model.state_dict() if not name.startswith(f"{anatomy.where}.") and name not in tied}
    embedding = model.get_input_embeddings().weight
    mapped = {name for name, weight in model.named_parameters() if weight is embedding} - set(tied.values())
    load_weights(anatomy, names, checkpoint, manifest, device, progress, frozenset(mapped))
    for name, original in tied.items():
        owner, _, key = name.rpartition(".")
        model.get_submodule(owner)._parameters[key] = model.get_parameter(original)
    _check(anatomy, lacking - names)


def _check(anatomy: Anatomy, lacking: frozenset[str]) -> None:
    for name in sorted(lacking):
        raise ModelFault(f"{anatomy.source}: {name}: no checkpoint holds it, and the library does not restore it")
