"""Which ids end an answer: those of generation_config.json that the model can produce, else those of config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.models import make_model

from swarm.checkpoint.config import read_ends, read_spec
from swarm.errors import ModelFault


def stated(directory: Path, value: Any, own: Any = 257) -> Path:
    make_model(directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"eos_token_id": own}))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    return directory


@pytest.mark.parametrize(
    ("value", "ends"),
    [
        (260, (260,)),
        ([257, 260], (257, 260)),
        ([50256, 260, 288, 287], (260, 287)),
        (50256, (257,)),
        (-1, (257,)),
        ([], (257,)),
        (None, (257,)),
    ],
    ids=str,
)
def test_ids_that_the_model_cannot_produce_are_dropped(tmp_path: Path, value: Any, ends: tuple[int, ...]) -> None:
    assert read_spec(stated(tmp_path, value)).eos_ids == ends


def test_none_is_left_where_config_says_nothing(tmp_path: Path) -> None:
    assert read_spec(stated(tmp_path, 50256, own=None)).eos_ids == ()


def test_what_config_itself_says_must_be_within(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=r"/config\.json: eos_token_id: 50256 is not within the vocabulary of 288"):
        read_spec(stated(tmp_path, 50256, own=50256))


@pytest.mark.parametrize("value", ["7", [1, "x"], 1.5, True, {}, list(range(65))], ids=repr)
def test_what_are_no_ids_is_named(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ModelFault, match=r"generation_config\.json: eos_token_id: .* no token ids"):
        read_ends(stated(tmp_path, value))


def test_a_file_that_holds_no_object_is_named(tmp_path: Path) -> None:
    make_model(tmp_path)
    (tmp_path / "generation_config.json").write_text("[]")
    with pytest.raises(ModelFault, match=r"generation_config\.json: must hold a JSON object"):
        read_spec(tmp_path)
