"""What a model's config.json and generation_config.json say, or what a GGUF file says in their place. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swarm.checkpoint.gguf.config import gguf_config
from swarm.checkpoint.gguf.model import folder_of, gguf_paths
from swarm.checkpoint.small_files import read_json
from swarm.errors import ModelFault
from swarm.model.config_fields import MAX_EOS_IDS
from swarm.model.spec import CONFIG_FILE, ModelSpec

GENERATION_FILE = "generation_config.json"


def config_place(model: Path) -> Path:
    """The file that says what a model is, and that errors name: config.json, or else the GGUF file."""
    place = folder_of(model) / CONFIG_FILE
    paths = [] if place.exists() else gguf_paths(model)
    return paths[0] if paths else place


def read_config(model: Path) -> dict[str, Any]:
    """config.json of a model directory, or beside a GGUF file; or what GGUF files without one say. Raises ModelFault
    naming the file."""
    if not folder_of(model).is_dir():
        raise ModelFault(f"{model}: no such directory; a model is a directory with {CONFIG_FILE} and its weights")
    place = config_place(model)
    if place.name != CONFIG_FILE:
        return gguf_config(model)
    config = read_json(place)
    if not isinstance(config, dict):
        raise ModelFault(f"{place}: must hold a JSON object")
    return config


def read_ends(model: Path) -> tuple[int, ...]:
    """The ids that end an answer as generation_config.json has them, if there is one; some of them may lie outside the
    vocabulary, as libraries write defaults of the family there. Raises ModelFault naming the file."""
    place = folder_of(model) / GENERATION_FILE
    generation = read_json(place) if place.exists() else {}
    if not isinstance(generation, dict):
        raise ModelFault(f"{place}: must hold a JSON object")
    value = generation.get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if len(ids) > MAX_EOS_IDS or not all(type(each) is int for each in ids):
        raise ModelFault(f"{place}: eos_token_id: {value!r} are no token ids, {MAX_EOS_IDS} at most")
    return tuple(ids)


def read_spec(model: Path) -> ModelSpec:
    """The spec of a model directory or a GGUF file; generation_config.json, where there is one, may say which ids end an
    answer."""
    model = Path(model)
    return ModelSpec.from_config(read_config(model), str(config_place(model)), read_ends(model))
