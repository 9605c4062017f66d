"""A hub's cache of downloads: `models--owner--name` holds snapshots by commit, whose files are links to blobs. Only read, never
written to: what is put there the hub's own tools take for a piece of the model.

The layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import re
from pathlib import Path

PREFIX, SNAPSHOTS, MAIN = "models--", "snapshots", Path("refs") / "main"
MAX_SNAPSHOTS = 256  # that are looked at
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


def hub_id(folder: Path) -> str | None:
    """`owner/name`, or `name`, of a repository's folder in a cache, or of one of its snapshots; None for any other."""
    if folder.parent.name == SNAPSHOTS:
        folder = folder.parent.parent
    return folder.name.removeprefix(PREFIX).replace("--", "/", 1) if folder.name.startswith(PREFIX) else None


def hub_folder(hub: Path, name: str) -> Path:
    """Where a cache keeps `owner/name`, whether it has it or not."""
    return hub / (PREFIX + name.replace("/", "--"))


def snapshot_of(folder: Path) -> Path | None:
    """The snapshot that a repository's folder in a cache stands for: that of its main branch, else the only one. None if there
    is none."""
    try:
        with (folder / MAIN).open(encoding="ascii") as file:
            commit = file.read(80).strip()
        main = folder / SNAPSHOTS / commit
        return main if _COMMIT.fullmatch(commit) and main.is_dir() else None
    except (OSError, ValueError):  # no such file, or no commit in it
        pass
    try:
        several = [each for each, _ in zip((folder / SNAPSHOTS).iterdir(), range(MAX_SNAPSHOTS), strict=False)]
    except (OSError, ValueError):  # no such directory, or a name with a zero byte
        return None
    return several[0] if len(several) == 1 else None
