"""From what a person calls a model to its directory. Knows nothing of what is in the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from swarm.errors import UsageFault

MAX_LISTED = 20  # models that a message names
MAX_LOOKED_AT = 2000  # entries of a models directory
_NONE: Mapping[str, Path] = MappingProxyType({})


def find_model(name: str | Path, models_dir: Path | None, known: Mapping[str, Path] = _NONE) -> Path:
    """The directory of a model: a name in `known`, a path, or a name in `models_dir` ("name" or "owner/name").

    A directory counts if it holds a config.json. Raises UsageFault that lists the models that are there.
    """
    text = str(name)
    if text in known:
        return known[text]
    path = Path(name).expanduser()
    if text and _is_model(path):
        return path
    if models_dir is not None and _is_below(models_dir, text) and _is_model(models_dir / text):
        return models_dir / text
    if text and _is_folder(path):
        raise UsageFault(f"{path} holds no model: there is no config.json in it")
    there = [*known, *list_models(models_dir)] if models_dir is not None else list(known)
    shown = ", ".join(there[:MAX_LISTED]) + (f" and {len(there) - MAX_LISTED} more" if len(there) > MAX_LISTED else "")
    where = (
        "no such directory" if models_dir is None else f"no such directory, and nothing of that name in {models_dir}"
    )
    raise UsageFault(
        f"there is no model '{text}': {where}. " + (f"There are: {shown}" if there else "Give its directory")
    )


def list_models(models_dir: Path) -> list[str]:
    """Names of the models in a directory, "name" or "owner/name", sorted; empty if it cannot be read."""
    found: list[str] = []
    for entry in _folders(models_dir):
        if _is_model(entry):
            found.append(entry.name)
        else:
            found += [f"{entry.name}/{inner.name}" for inner in _folders(entry) if _is_model(inner)]
    return sorted(found)


def _folders(directory: Path) -> Iterator[Path]:
    try:
        for number, entry in enumerate(directory.iterdir()):
            if number >= MAX_LOOKED_AT:
                return
            if _is_folder(entry) and not entry.name.startswith("."):
                yield entry
    except OSError:
        return


def _is_model(path: Path) -> bool:
    try:
        return (path / "config.json").is_file()
    except (OSError, ValueError):  # unreadable, or a name with a zero byte
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # as above
        return False


def _is_below(directory: Path, name: str) -> bool:
    """Names may not climb out of the directory: they can come from requests."""
    parts = Path(name).parts
    return bool(parts) and not Path(name).is_absolute() and ".." not in parts and _is_folder(directory)
