"""Models of one name: each can be asked for by its owner's name and its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from support.gateway import DEMO

from swarm.client import Client
from swarm.gateway.catalog import Catalog
from swarm.gateway.http.errors import UnknownModel


def copy(place: Path, **changes: int) -> Path:
    """The demo model, or one with another config: another model."""
    place.mkdir(parents=True)
    for file in DEMO.iterdir():
        (place / file.name).symlink_to(file)
    if changes:
        (place / "config.json").unlink()
        (place / "config.json").write_text(json.dumps(json.loads((DEMO / "config.json").read_text()) | changes))
    return place


def names(*paths: Path, ask: tuple[str, ...] = ()) -> list[str]:
    async def main() -> list[str]:
        async with Catalog(paths, None, lambda path: Client(path, local=True)) as catalog:
            for name in ask:
                assert (await catalog.card(name)).available
            return [card.id for card in await catalog.cards()]

    return asyncio.run(main())


def test_two_models_of_one_name_are_both_shown(tmp_path: Path) -> None:
    first, second = copy(tmp_path / "o1" / "same"), copy(tmp_path / "o2" / "same", max_position_embeddings=1024)
    assert names(first, second, ask=("o1/same", "o2/same")) == ["o1/same", "o2/same"]
    with pytest.raises(UnknownModel, match="there are: o1/same, o2/same"):
        names(first, second, ask=("same",))


def test_one_model_goes_by_its_owner_too_and_counts_once(tmp_path: Path) -> None:
    first, second = copy(tmp_path / "o1" / "same"), copy(tmp_path / "o2" / "same")
    assert names(first, second, ask=("same", "o1/same")) == ["same"]
    assert names(DEMO, ask=("demo",)) == ["demo"]
