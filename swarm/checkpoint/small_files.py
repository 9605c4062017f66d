"""The small JSON files beside a model's weights, read with a bound and with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swarm.checkpoint.safetensors_file import check_fetched
from swarm.errors import ModelFault

MAX_JSON_BYTES = 16 << 20  # the largest tokenizer_config.json known has 1.2 MB
MAX_CONFIG_BYTES = 4 << 20


def read_bytes(path: Path, limit: int) -> bytes | None:
    """The file's content, or None if there is no such file. Raises ModelFault."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelFault(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise ModelFault(f"{path} has more than {limit} bytes")
    check_fetched(path, content)
    return content


def read_text(path: Path, limit: int) -> str | None:
    """As `read_bytes`, decoded."""
    content = read_bytes(path, limit)
    try:
        return None if content is None else content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFault(f"{path} is not UTF-8: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The file's object; empty if there is no such file. Raises ModelFault."""
    text = read_text(path, MAX_JSON_BYTES)
    try:
        value = {} if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFault(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFault(f"{path} holds no JSON object")
    return value


def read_json(path: Path, limit: int = MAX_CONFIG_BYTES) -> Any:
    """Any JSON file of a model. Raises ModelFault naming the file."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise ModelFault(f"{path}: {size} bytes are more than the {limit} that such a file may have")
        content = path.read_bytes()
        check_fetched(path, content)
        return json.loads(content)
    except OSError as error:
        raise ModelFault(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFault(f"{path}: is not valid JSON: {error}") from error
