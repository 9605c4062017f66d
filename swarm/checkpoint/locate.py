"""From what a person calls a model to its directory or GGUF file. Knows nothing of what is in the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from swarm.checkpoint.found import dangling, in_their_place
from swarm.checkpoint.gguf.model import SUFFIX, gguf_name, gguf_paths
from swarm.checkpoint.hub_cache import hub_folder, hub_id, snapshot_of
from swarm.errors import ModelFault, UsageFault
from swarm.records import MAX_NAME_BYTES

MAX_LISTED = 20  # models that a message names
MAX_LOOKED_AT = 2000  # entries of a models directory
_NONE: Mapping[str, Path] = MappingProxyType({})


def find_model(name: str | Path, models_dir: Path | None, known: Mapping[str, Path] = _NONE) -> Path:
    """Where a model is: a name in `known`, a path, or a name in `models_dir` ("name" or "owner/name").

    It is a directory that holds a config.json or one model in GGUF, or a GGUF file, whose suffix may be left out of a name; or
    a repository in a hub's cache (`models--owner--name`), which stands for the snapshot of its main branch; `models_dir` may
    be such a cache.
    Raises UsageFault that lists the models that are there.
    """
    text = str(name)
    if text in known:
        return known[text]
    path = Path(name).expanduser()
    if text and _is_model(path):
        return path
    snapshot = snapshot_of(path) if text else None
    if snapshot is not None and _is_model(snapshot):
        return snapshot
    found = model_in(models_dir, text) if models_dir is not None else None
    if found is not None:
        return found
    path = snapshot or path
    if text and _is_folder(path):
        several = _listed([file.name for file in _gguf_models(path)])
        if several:
            raise UsageFault(f"{path} holds several models in GGUF: give the path of one of {several}")
        gone = dangling(path)
        raise UsageFault(
            f"{path} holds no model: "
            + (gone or f"there is no config.json in it, nor a GGUF file{in_their_place(path)}")
        )
    there = [*known, *list_models(models_dir)] if models_dir is not None else list(known)
    where = (
        "no such directory" if models_dir is None else f"no such directory, and nothing of that name in {models_dir}"
    )
    raise UsageFault(
        f"there is no model '{text}': {where}. "
        + (f"There are: {_listed(there)}" if there else "Give its directory or GGUF file")
    )


def model_in(models_dir: Path, name: str) -> Path | None:
    """Where the model of a name, as `list_models` gives them, lies in a directory or a hub's cache; None if it is not there."""
    for each in (name, name + SUFFIX):
        if _is_below(models_dir, each):
            if _is_model(models_dir / each):
                return models_dir / each
            for folder in (models_dir / each, hub_folder(models_dir, each)):
                cached = snapshot_of(folder)
                if cached is not None and _is_model(cached):
                    return cached
    return None


def model_name(model: Path) -> str:
    """What a model is called: as its directory is, or the folder around it where the directory is just `model`; a snapshot in a
    hub's cache as its repository; in GGUF as its file is."""
    resolved, ggufs = Path(model).resolve(), gguf_paths(Path(model))
    name = resolved.parent.name if resolved.name == "model" and resolved.parent.name else resolved.name
    cached = hub_id(Path(model).absolute()) or hub_id(resolved)
    if cached:
        name = cached.rpartition("/")[2]
    if ggufs:
        name = gguf_name(ggufs[0])
    return name.encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore") or "model"


def owned_names(model: Path, name: str) -> tuple[str, ...]:
    """A model that is called `name` as `owner/name`, as the command line knows it."""
    cached = hub_id(Path(model).absolute())
    if cached:
        return (cached,) if "/" in cached else (name,)
    resolved = model.resolve()
    owner = (resolved.parent if resolved.name == "model" else model).parent.name
    return f"{owner}/{name}", f"{owner}/{model.name}"


def list_models(models_dir: Path) -> list[str]:
    """Names of the models in a directory, "name" or "owner/name", sorted; empty if it cannot be read."""
    found = [file.name for file in _gguf_models(models_dir)]
    for entry in _folders(models_dir):
        if _is_model(entry):
            found.append(entry.name)
        elif (cached := hub_id(entry)) is not None:
            found += [cached] if (snapshot := snapshot_of(entry)) is not None and _is_model(snapshot) else []
        else:
            inner = [*_gguf_models(entry), *filter(_is_model, _folders(entry))]
            found += [f"{entry.name}/{each.name}" for each in inner]
    return sorted(found)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _gguf_models(directory: Path) -> list[Path]:
    """The GGUF files in a directory; of those that belong together the first."""
    try:
        paths = gguf_paths(directory) if directory.is_dir() else []
    except (OSError, ValueError, ModelFault):  # unreadable, a name with a zero byte, or too many
        return []
    return list({gguf_name(path): path for path in reversed(paths)}.values())[::-1]


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
        if path.suffix == SUFFIX and path.is_file():
            return True
        return (path / "config.json").is_file() or len(_gguf_models(path)) == 1
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
