"""Tokens with a role, as the small files of a model directory state them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swarm.text.vocabularies.added_tokens import AddedTokens, read_added_tokens


def added(directory: Path, config: dict[str, Any]) -> AddedTokens:
    return read_added_tokens(directory, config, {"eos_token": "</s>"}, blanks_before_mask=False)


def test_roles_are_what_the_files_say_of_them(tmp_path: Path) -> None:
    assert added(tmp_path, {}).named == {"eos_token": "</s>"}
    assert added(tmp_path, {"eos_token": None}).named == {}
    assert added(tmp_path, {"eos_token": "<e>", "add_bos_token": True}).named == {"eos_token": "<e>"}
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "<map>"}')
    assert added(tmp_path, {"eos_token": "<e>"}).named == {"eos_token": "<map>"}
    assert added(tmp_path, {"eos_token": "<e>", "added_tokens_decoder": {}}).named == {"eos_token": "<e>"}
    assert added(tmp_path, {"extra_special_tokens": {"image_token": "<i>"}}).named["image_token"] == "<i>"
