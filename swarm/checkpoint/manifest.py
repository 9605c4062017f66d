"""What a model is, exactly: a digest over its config and every tensor's own SHA-256, and the means to check a tensor.

Hashing a model takes as long as reading it, so the manifest is cached beside the model, or else in the user's cache
directory, and made anew when a file's size or time changes. Knows nothing of layers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.checkpoint.config import config_place, read_config
from swarm.checkpoint.found import missing
from swarm.checkpoint.gguf.model import SUFFIX, folder_of
from swarm.checkpoint.hub_cache import hub_id
from swarm.checkpoint.safetensors_file import INDEX_FILE, TensorFile
from swarm.checkpoint.small_files import read_json
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.errors import ModelFault, WrongModel
from swarm.model.spec import ModelSpec
from swarm.records import ModelRef

MANIFEST_FILE = "swarm.manifest.json"
MANIFEST_VERSION = 1
MAX_MANIFEST_BYTES = 64 << 20
HASH_THREADS = 4
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Manifest:
    """The digest of a model and of each of its tensors."""

    directory: Path
    digest: bytes  # 32 bytes
    layer_count: int
    tensors: Mapping[str, str]  # tensor name -> its SHA-256 in hex

    def __repr__(self) -> str:
        return f"<Manifest {self.directory} {self.digest.hex()[:12]} of {len(self.tensors)} tensors>"

    def ref(self, name: str) -> ModelRef:
        return ModelRef(name, self.digest, self.layer_count)

    def verify(self, checkpoint: StoredTensors, name: str) -> None:
        """Raises ModelFault when a tensor is not the one that the manifest was made from."""
        path = checkpoint.path(name)
        if name not in self.tensors:
            raise ModelFault(f"{path}: tensor {name}: is not in the manifest of the model")
        if tensor_digest(checkpoint.file(name), name) != self.tensors[name]:
            raise ModelFault(
                f"{path}: tensor {name}: its bytes do not match its SHA-256 in the manifest of the model; "
                f"the file is damaged, fetch it again"
            )

    def require(self, digest: bytes) -> None:
        """Raises WrongModel when this is another model than the one with that digest."""
        if self.digest != digest:
            raise WrongModel(f"{self.directory}: holds model {self.digest.hex()}, but {digest.hex()} is wanted")


def read_manifest(directory: Path, progress: Progress | None = None, layer_count: int | None = None) -> Manifest:
    """The manifest of a model directory or a GGUF file, from the cache where that still holds. Raises ModelFault.

    `layer_count` is for a model whose architecture the engine does not know.
    """
    directory = Path(directory)
    config = read_config(directory)
    checkpoint = StoredTensors.open(directory)
    if layer_count is None:
        spec = ModelSpec.from_config(config, str(config_place(directory)))
        layer_count = spec.layer_count
        checkpoint.check_all_read(spec)
    stamp, absent = _stamp(config_place(directory), checkpoint)
    for place in _places(directory):
        tensors = _load(place, stamp, checkpoint, whole=absent is None)
        if tensors is not None:
            return Manifest(directory, _digest(config, checkpoint, tensors), layer_count, tensors)
    if absent is not None:
        raise ModelFault(
            f"{missing(absent)}. The {MANIFEST_FILE} of a directory that holds all of the model can stand for it here, "
            "where none of its layers are served"
        )
    tensors = _hash_tensors(checkpoint, progress)
    manifest = Manifest(directory, _digest(config, checkpoint, tensors), layer_count, tensors)
    _save(directory, {"version": MANIFEST_VERSION, "stamp": stamp, "tensors": tensors})
    return manifest


def tensor_digest(file: TensorFile, name: str) -> str:
    """A tensor's own SHA-256, in hex. Dtype and shape stand before the bytes: read otherwise, they are another tensor."""
    entry = file.entries[name]
    own = hashlib.sha256(f"{entry.dtype}{list(entry.shape)}\0".encode())
    own.update(file.view(name))
    return own.hexdigest()


def _digest(config: Mapping[str, Any], checkpoint: StoredTensors, tensors: Mapping[str, str]) -> bytes:
    # Canonical JSON: neither white space in config.json nor the number of shards makes another model
    stated: list[Any] = [config, tensors]
    if checkpoint.order:
        stated.append(checkpoint.order)
    content = json.dumps(stated, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(b"swarm-model-1\0" + content.encode()).digest()


def _hash_tensors(checkpoint: StoredTensors, progress: Progress | None) -> dict[str, str]:
    files = {name: checkpoint.file(name) for name in sorted(checkpoint.file_of)}
    total, done = sum(len(file.view(name)) for name, file in files.items()), 0
    tensors = {}
    with ThreadPoolExecutor(min(HASH_THREADS, os.cpu_count() or 1), "manifest") as pool:
        for name, digest in zip(files, pool.map(tensor_digest, files.values(), files), strict=True):
            tensors[name] = digest
            done += len(files[name].view(name))
            if progress is not None:
                progress(done, total)
    return tensors


def _stamp(config: Path, checkpoint: StoredTensors) -> tuple[dict[str, list[int]], Path | None]:
    """Size and time of every file that the manifest depends on; and the first that is missing."""
    stamp, absent = {}, None
    for name in [config.name, INDEX_FILE, *checkpoint.file_names]:
        try:
            status = config.with_name(name).stat()
        except FileNotFoundError:
            absent = absent or (None if name == INDEX_FILE else config.with_name(name))
            continue
        stamp[name] = [status.st_size, status.st_mtime_ns]
    return stamp, absent


def _fits(cached: object, stamp: Mapping[str, Sequence[int]], whole: bool) -> bool:
    """Whether a manifest was made from these files. Where some are missing it came from elsewhere, and with it other times:
    sizes must do, since all that is loaded is held to its digests."""
    if whole:
        return cached == stamp
    if not isinstance(cached, dict):
        return False
    sizes = {name: each[0] for name, each in cached.items() if isinstance(each, list) and each}
    return all(sizes.get(name) == size for name, (size, _) in stamp.items())


def _places(directory: Path) -> list[Path]:
    """Where a manifest may lie, preferred first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:32]
    beside = directory / MANIFEST_FILE
    if directory.suffix == SUFFIX and not directory.is_dir():  # of which there may be several in one directory
        beside = directory.with_name(f"{directory.name}.{MANIFEST_FILE}")
    return [beside, cache / "swarm" / f"{key}.json"]


def _load(
    place: Path, stamp: Mapping[str, Sequence[int]], checkpoint: StoredTensors, whole: bool
) -> dict[str, str] | None:
    """The tensors' digests, or None where the cache is absent, stale or damaged: it is then made anew."""
    if not place.exists():
        return None
    try:
        cached = read_json(place, MAX_MANIFEST_BYTES)
    except ModelFault:
        return None
    if not isinstance(cached, dict) or cached.get("version") != MANIFEST_VERSION:
        return None
    if not _fits(cached.get("stamp"), stamp, whole):
        return None
    tensors = cached.get("tensors")
    if not isinstance(tensors, dict) or tensors.keys() != checkpoint.file_of.keys():
        return None
    return tensors if all(isinstance(value, str) and len(value) == 64 for value in tensors.values()) else None


def _save(directory: Path, cached: dict[str, Any]) -> None:
    """Beside the model if that can be written to and is no hub's cache, else in the user's cache directory, else nowhere."""
    folder = folder_of(directory).absolute()
    cached_by_hub = hub_id(folder) is not None or hub_id(folder.resolve()) is not None
    for place in _places(directory)[1:] if cached_by_hub else _places(directory):
        temporary = place.with_name(f"{place.name}.{os.getpid()}")
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(json.dumps(cached))
                temporary.replace(place)  # two workers may do this at once
            except OSError:  # a full disk leaves no piece of it
                temporary.unlink(missing_ok=True)
                raise
            return
