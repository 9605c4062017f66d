"""Names of models, and what is said when there is none of that name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from swarm.checkpoint.locate import find_model, list_models
from swarm.errors import UsageFault


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Three models; one directory and one file that are none."""
    for name in ("tiny", "meta/llama", "meta/other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme").write_text("")
    return tmp_path


def test_a_name_a_path_or_a_known_model(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = Path("/somewhere")
    assert find_model("tiny", models) == models / "tiny"
    assert find_model("meta/llama", models) == models / "meta/llama"
    assert find_model(str(models / "tiny"), None) == models / "tiny"
    assert find_model(models / "tiny", None) == models / "tiny"
    assert find_model("demo", None, {"demo": demo}) == demo
    monkeypatch.chdir(models)
    assert find_model("tiny", None) == Path("tiny")
    monkeypatch.setenv("HOME", str(models))
    assert find_model("~/tiny", None) == models / "tiny"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tinny", "there is no model 'tinny': no such directory, and nothing of that name in"),
        ("tinny", "There are: demo, meta/llama, meta/other, tiny"),
        ("", "there is no model ''"),
        ("../models/tiny", "there is no model"),
        ("/nowhere", "there is no model '/nowhere'"),
        ("a\0b", "there is no model"),
    ],
)
def test_what_is_there_is_listed(models: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    monkeypatch.chdir(models / "notes")
    with pytest.raises(UsageFault, match=re.escape(words)):
        find_model(name, models, {"demo": Path("/somewhere")})


def test_a_directory_without_a_model_is_named(models: Path) -> None:
    with pytest.raises(UsageFault, match=r"notes holds no model: there is no config\.json"):
        find_model(models / "notes", None)


def test_names_do_not_climb_out_of_the_directory(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models / "notes")
    assert (models / "meta" / ".." / "tiny" / "config.json").exists()
    with pytest.raises(UsageFault, match="no model"):
        find_model("x/../../tiny", models / "meta")


def test_without_any_models_the_directory_is_asked_for() -> None:
    with pytest.raises(UsageFault, match=r"no such directory\. Give its directory"):
        find_model("no-such-model", None)


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / f"m{number:02}").mkdir()
        (tmp_path / f"m{number:02}" / "config.json").write_text("{}")
    assert len(list_models(tmp_path)) == 25
    with pytest.raises(UsageFault, match="m19 and 5 more"):
        find_model("nothing", tmp_path)
    assert list_models(tmp_path / "missing") == []


def test_models_in_gguf(models: Path) -> None:
    for name in (
        "lone.gguf",
        "q/a-00001-of-00002.gguf",
        "q/a-00002-of-00002.gguf",
        "q/mmproj-a.gguf",
        "two/x.gguf",
        "two/y.gguf",
    ):
        (models / name).parent.mkdir(exist_ok=True)
        (models / name).write_bytes(b"GGUF")
    assert list_models(models) == ["lone.gguf", "meta/llama", "meta/other", "q", "tiny", "two/x.gguf", "two/y.gguf"]
    assert find_model(models / "lone.gguf", None) == find_model("lone.gguf", models) == models / "lone.gguf"
    assert find_model("lone", models) == models / "lone.gguf"
    assert find_model("q", models) == models / "q"
    assert find_model(str(models / "q" / "a-00001-of-00002.gguf"), None).name == "a-00001-of-00002.gguf"
    assert find_model("two/y", models) == models / "two/y.gguf"
    with pytest.raises(UsageFault, match=r"two holds several models in GGUF: give the path of one of x\.gguf, y\.gguf"):
        find_model(models / "two", None)
    with pytest.raises(UsageFault, match=r"there is no model '/nowhere/x\.gguf'"):
        find_model("/nowhere/x.gguf", None)
