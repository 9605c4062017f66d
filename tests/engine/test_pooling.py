"""What a model's files say of its vectors, and the vectors themselves against sums made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.embedders import write_modules

from swarm.engine.pooling import MODES, Pooling, read_pooling
from swarm.errors import ModelFault

ROWS = torch.tensor([[1.0, -2.0], [3.0, 4.0], [-1.0, 7.0], [5.0, 1.0]])
BY_HAND = {
    "cls_token": [1.0, -2.0],
    "max_tokens": [5.0, 7.0],
    "mean_tokens": [2.0, 2.5],
    "mean_sqrt_len_tokens": [4.0, 5.0],
    "weightedmean_tokens": [2.4, 3.1],
    "lasttoken": [5.0, 1.0],
}


def written(directory: Path, stated: Any, *kinds: str) -> Path:
    write_modules(directory, *(kinds or ("Transformer", "Pooling")))
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(stated))
    return directory


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_as_by_hand(mode: str) -> None:
    assert torch.allclose(Pooling((mode,), unit=False).compute(ROWS), torch.tensor(BY_HAND[mode]))
    vector = Pooling((mode,), unit=True).compute(ROWS)
    assert float(vector.norm()) == pytest.approx(1.0)
    assert torch.allclose(vector * torch.tensor(BY_HAND[mode]).norm(), torch.tensor(BY_HAND[mode]))


def test_several_stand_beside_each_other_in_the_order_of_their_makers(tmp_path: Path) -> None:
    stated = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True, "pooling_mode_lasttoken": False}
    pooling = read_pooling(written(tmp_path, stated), both_ways=True)
    assert pooling == Pooling(("cls_token", "mean_tokens"), unit=False)
    assert pooling.compute(ROWS).tolist() == [1.0, -2.0, 2.0, 2.5]
    assert (pooling.width(2), pooling.last_only) == (4, False)


def test_what_holds_where_nothing_is_said(tmp_path: Path) -> None:
    assert read_pooling(tmp_path, both_ways=True) == Pooling(("mean_tokens",), unit=False)
    assert read_pooling(tmp_path, both_ways=False) == Pooling(("lasttoken",), unit=True)
    assert read_pooling(tmp_path, both_ways=False).last_only


def test_both_spellings_a_length_and_a_last_norm(tmp_path: Path) -> None:
    directory = written(
        tmp_path, {"pooling_mode": "cls", "embedding_dimension": 2}, "Transformer", "Pooling", "Normalize"
    )
    assert read_pooling(directory, both_ways=True) == Pooling(("cls_token",), unit=True)
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": ["lasttoken", "mean"]}))
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128, "do_lower_case": True}))
    found = read_pooling(directory, both_ways=True)
    assert found == Pooling(("mean_tokens", "lasttoken"), True, most_tokens=128, lower_case=True)
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": None}))
    assert read_pooling(directory, both_ways=True).most_tokens is None


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_a_length_in_a_file_of_the_model_s_kind(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"sentence_{kind}_config.json").write_text(json.dumps({"max_seq_length": 128}))
    assert read_pooling(tmp_path, both_ways=True).most_tokens == 128


def test_what_stands_before_every_text(tmp_path: Path) -> None:
    directory = written(tmp_path, {"pooling_mode_mean_tokens": True})
    path = directory / "config_sentence_transformers.json"
    prompts = {"query": "Find: ", "document": ""}
    for named, found in ((None, ""), ("query", "Find: "), ("document", "")):
        path.write_text(json.dumps({"prompts": prompts, "default_prompt_name": named}))
        assert read_pooling(directory, both_ways=True).prompt == found


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ([], "must hold a JSON object"),
        ({"default_prompt_name": "query"}, "default_prompt_name: 'query' is none of its prompts"),
        ({"default_prompt_name": ["query"], "prompts": {"query": "a"}}, r"\['query'\] is none of its prompts"),
        ({"default_prompt_name": "query", "prompts": {"query": 7}}, "'query' is none of its prompts"),
        ({"default_prompt_name": "query", "prompts": {"query": "x" * 70000}}, "70000 characters are more than"),
    ],
)
def test_prompts_that_are_none(tmp_path: Path, stated: Any, said: str) -> None:
    directory = written(tmp_path, {"pooling_mode_mean_tokens": True})
    (directory / "config_sentence_transformers.json").write_text(json.dumps(stated))
    with pytest.raises(ModelFault, match=f"config_sentence_transformers.json: .*{said}"):
        read_pooling(directory, both_ways=True)


def test_a_prompt_that_does_not_count_is_refused(tmp_path: Path) -> None:
    directory = written(tmp_path, {"pooling_mode_mean_tokens": True, "include_prompt": False})
    assert read_pooling(directory, both_ways=True).prompt == ""
    stated = {"prompts": {"query": "Find: "}, "default_prompt_name": "query"}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(stated))
    with pytest.raises(ModelFault, match="include_prompt: False is not supported"):
        read_pooling(directory, both_ways=True)


@pytest.mark.parametrize(
    ("stated", "kinds", "said"),
    [
        ({}, (), "1_Pooling/config.json: pooling by nothing is not known; known: cls_token"),
        ({"pooling_mode_cnn": True}, (), "pooling by cnn is not known"),
        ({"pooling_mode": "attention"}, (), "pooling by attention is not known"),
        ({"pooling_mode": [7]}, (), "pooling by 7 is not known"),
        ([], (), "1_Pooling/config.json: must hold a JSON object"),
        (
            {},
            ("Transformer", "Pooling", "Dense"),
            "modules.json: the modules Transformer, Pooling, Dense make its vectors",
        ),
        ({}, ("Transformer", "Pooling", "Dense", "Normalize"), "only Transformer, Pooling and, perhaps, Normalize"),
    ],
)
def test_what_cannot_be_honoured_is_named(tmp_path: Path, stated: Any, kinds: tuple[str, ...], said: str) -> None:
    with pytest.raises(ModelFault, match=said):
        read_pooling(written(tmp_path, stated, *kinds), both_ways=True)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("modules.json", {}, "must hold a list of modules"),
        ("modules.json", [7], "must hold a list of modules"),
        ("modules.json", [{"type": 3}] * 10_000, "only Transformer"),
        (
            "modules.json",
            [{"type": "Transformer"}, {"type": "Pooling", "path": "../other"}],
            "names no folder beside it",
        ),
        ("modules.json", [{"type": "Transformer"}, {"type": "Pooling", "path": ".."}], "names no folder beside it"),
        ("modules.json", [{"type": "Transformer"}, {"type": "Pooling"}], "None names no folder beside it"),
        (
            "modules.json",
            [{"type": "Transformer"}, {"type": "Pooling", "path": "gone"}],
            "gone/config.json: cannot be read",
        ),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length: 0 is no whole number"),
        ("sentence_bert_config.json", [], "must hold a JSON object"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: Any, said: str) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ModelFault, match=said):
        read_pooling(tmp_path, both_ways=True)
