"""What documents say of the tree: every path in them is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATH = re.compile(r"`((?:swarm|chaos|tests|bootstrap|docs)/[\w./-]*)`")


@pytest.mark.parametrize(
    "document",
    [
        "docs/ARCHITECTURE.md",
        "docs/DESIGN.md",
        "docs/AGENTS.md",
        "docs/GUIDE.md",
        "CONTRIBUTING.md",
        "README.md",
        "chaos/faults/README.md",
    ],
)
def test_every_path_in_it_is_there(document: str) -> None:
    paths = set(PATH.findall((ROOT / document).read_text(encoding="utf-8")))
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_map_names_every_package() -> None:
    named = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    packages = {file.parent.relative_to(ROOT).parts[1] for file in ROOT.glob("swarm/*/__init__.py")}
    assert not [package for package in packages if f"`swarm/{package}/`" not in named]
