"""What is said of a model whose weights are not there: what was found in their place, and the way out."""

from __future__ import annotations

from pathlib import Path

from swarm.checkpoint.safetensors_file import INDEX_FILE, SINGLE_FILE

MAX_NAMED = 3  # files that a message names
MAX_LOOKED_AT = 4096  # entries of a model's directory
_HINTS = (  # what a directory without weights that are read may hold, the most telling first, and what to do about it
    (
        "adapter_*.safetensors",
        "an adapter, no model: merge it into its base model (peft: merge_and_unload) and save that",
    ),
    ("consolidated*.safetensors", "the weights under their maker's names: fetch the files in transformers' format"),
    ("model-*-of-*.safetensors", f"shards without {INDEX_FILE}, which says what is in them: fetch that file too"),
    ("*.safetensors", f"safetensors of other names: fetch {SINGLE_FILE}, or the shards and their {INDEX_FILE}"),
    ("*.bin", "weights as pickles, which can run code and are never read: fetch safetensors, or convert them"),
    ("*.pt*", "weights as pickles, which can run code and are never read: fetch safetensors, or convert them"),
    ("*.h5", "weights for TensorFlow: fetch safetensors, or convert them"),
    ("*.msgpack", "weights for Flax: fetch safetensors, or convert them"),
    ("*.onnx", "weights for ONNX: fetch safetensors"),
)


def missing(path: Path) -> str:
    """That a file of a model is not there; of a link that leads nowhere its target."""
    if not path.is_symlink():
        return f"{path}: this file of the model is missing"
    return f"{path}: is a link to {path.readlink()}, which is not there: the download did not end, or was tidied away"


def dangling(directory: Path) -> str | None:
    """What is said of the first link in a directory that leads nowhere; None if there is none."""
    gone = next((path for path in _entries(directory) if path.is_symlink() and not path.exists()), None)
    return None if gone is None else missing(gone)


def no_weights(directory: Path) -> str:
    """That a directory holds no weights that are read, and what it holds in their place."""
    said = f"{directory}: holds neither {SINGLE_FILE} nor {INDEX_FILE}, nor a GGUF file"
    gone = dangling(directory)
    if gone is not None:
        return f"{said}; {gone}"
    return said + (in_their_place(directory) or ": fetch its weights")


def in_their_place(directory: Path) -> str:
    """What else than weights that are read is in a directory, and the way out; empty where nothing tells."""
    entries = _entries(directory)
    for pattern, hint in _HINTS:
        names = [path.name for path in entries if path.match(pattern)]
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            return f", but {', '.join(names[:MAX_NAMED])}{more}: {hint}"
    return ""


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(path for path, _ in zip(directory.iterdir(), range(MAX_LOOKED_AT), strict=False))
    except (OSError, ValueError):  # unreadable, or a name with a zero byte
        return []
