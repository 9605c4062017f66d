"""Quantised twins of the tiny model: its linear layers in some format, and the plain model of what they stand for."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from support.models import make_config, make_tensors
from torch import Tensor

from swarm.checkpoint.manifest import read_manifest
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.engine import Head, Stage
from swarm.errors import ModelFault

Parts = dict[str, Tensor]
Quantise = Callable[
    [Tensor], tuple[Parts, Tensor]
]  # a weight -> its parts by the end of their names, and what they mean
FILE = "model.safetensors"
SHAPE = {"num_hidden_layers": 2, "intermediate_size": 128}


def save_model(directory: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(make_config(**config)))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / FILE)
    return directory


def make_twins(directory: Path, quantise: Quantise, settings: dict[str, Any], **config: Any) -> tuple[Path, Path]:
    """The model with quantised linear layers, and the same model with what these are dequantised to."""
    config = SHAPE | config
    stored: Parts = {}
    plain: Parts = {}
    for name, tensor in make_tensors(make_config(**config)).items():
        if "_proj.weight" not in name:
            stored[name] = plain[name] = tensor
            continue
        parts, plain[name] = quantise(tensor)
        stored |= {f"{name.removesuffix('.weight')}.{end}": part for end, part in parts.items()}
    quantised = save_model(directory / "quantised", stored, quantization_config=settings, **config)
    return quantised, save_model(directory / "plain", plain, **config)


def check_twins(quantised: Path, plain: Path) -> None:
    """Equal tensors, and equal bits from the whole model in both precisions; the manifest covers the stored tensors. Computed as
    it is stored the model is near that, whatever of it is."""
    ours, theirs = StoredTensors.open(quantised), StoredTensors.open(plain)
    for name in theirs.file_of:
        shape = theirs.file(name).entries[name].shape
        assert torch.equal(ours.tensor(name, shape).float(), theirs.tensor(name, shape).float()), name
    assert set(read_manifest(quantised).tensors) == set(ours.file_of)
    for precision in ("fp32", "bf16"):
        assert torch.equal(logits(quantised, precision), logits(plain, precision))
    exact = logits(plain, "fp32")
    assert (logits(quantised, "as-stored", "portable") - exact).norm() < 0.03 * exact.norm()


def logits(directory: Path, precision: str, numerics: str = "native") -> Tensor:
    stage = Stage.load(directory, precision=precision, numerics=numerics)
    head = Head.load(directory, precision=precision, numerics=numerics)
    cache = stage.open(64)
    stage.chunk(cache, head.embed(range(40, 60), 0))
    return head.logits(stage.decode([(cache, head.embed([5], 20))])[0])


def read(directory: Path, parts: Mapping[str, Tensor], settings: Any, shape: tuple[int, ...]) -> Tensor:
    """One tensor `x.weight` made from its parts, as a checkpoint of that quantization_config holds them."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"quantization_config": settings}))
    (directory / FILE).write_bytes(save({f"x.{end}": part.contiguous() for end, part in parts.items()}))
    return StoredTensors.open(directory).tensor("x.weight", shape)


def check_survives(directory: Path, parts: Mapping[str, Tensor], settings: Any, shape: tuple[int, ...]) -> None:
    """Whatever is stored: a tensor of that shape, or a fault that names the tensor or the field; no memory beyond both."""
    tracemalloc.start()
    try:
        outcome: Any = tuple(read(directory, parts, settings, shape).shape)
    except ModelFault as fault:
        outcome = str(fault)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert outcome == shape or "tensor x." in outcome or "quantization_config" in outcome
    assert peak < 4 << 20


def damaged(parts: Mapping[str, Tensor]) -> st.SearchStrategy[Parts]:
    """Parts of which one is absent, of another shape or dtype, or of any bytes; or more than one."""

    def one(tensor: Tensor) -> st.SearchStrategy[Tensor | None]:
        size = tensor.numel() * tensor.element_size()
        noise = st.binary(min_size=size, max_size=size).map(
            lambda raw: torch.frombuffer(bytearray(raw), dtype=tensor.dtype).view(tensor.shape) if size else tensor
        )
        sizes = st.lists(st.integers(0, 9), max_size=3)
        dtypes = st.sampled_from([torch.int32, torch.float32, torch.float16, torch.int8, torch.bool])
        other = st.tuples(sizes, dtypes).map(lambda drawn: torch.zeros(drawn[0], dtype=drawn[1]))
        return st.just(tensor) | noise | st.none() | other

    drawn = st.fixed_dictionaries({end: one(tensor) for end, tensor in parts.items()})
    return drawn.map(lambda chosen: {end: tensor for end, tensor in chosen.items() if tensor is not None})


def damaged_settings(settings: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """quantization_config with one field of any kind."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)
    fields = st.sampled_from([field for field in settings if field != "quant_method"])
    return st.tuples(fields, values).map(lambda drawn: {**settings, drawn[0]: drawn[1]})
