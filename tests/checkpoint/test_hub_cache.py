"""A hub's cache of downloads, as it is on disk: repositories, references, snapshots that are links to blobs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swarm.checkpoint.locate import find_model, list_models, model_name, owned_names
from swarm.checkpoint.manifest import read_manifest
from swarm.cli.api import api_config
from swarm.cli.models import known_models
from swarm.errors import ModelFault, UsageFault
from tests.support.models import make_model

COMMIT, OLD = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """One repository of two snapshots, whose main one is whole and made of links; one without a snapshot."""
    model = make_model(tmp_path / "made")
    repository = tmp_path / "hub" / "models--org--tiny-1B"
    for folder in ("blobs", "refs", f"snapshots/{COMMIT}", f"snapshots/{OLD}"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for file in model.iterdir():
        shutil.copy(file, repository / "blobs" / file.name)
        (repository / "snapshots" / COMMIT / file.name).symlink_to(f"../../blobs/{file.name}")
    (tmp_path / "hub" / "models--org--begun" / "refs").mkdir(parents=True)
    return tmp_path / "hub"


def test_a_repository_is_its_main_snapshot(hub: Path) -> None:
    repository = hub / "models--org--tiny-1B"
    snapshot = repository / "snapshots" / COMMIT
    for name, folder in ((repository, None), ("org/tiny-1B", hub), ("models--org--tiny-1B", hub), (snapshot, None)):
        assert find_model(name, folder) == snapshot
    assert list_models(hub) == ["org/tiny-1B"]
    assert model_name(snapshot) == "tiny-1B"
    assert owned_names(snapshot, "tiny-1B") == ("org/tiny-1B",)
    with pytest.raises(UsageFault, match=r"There are: org/tiny-1B"):
        find_model("org/begun", hub)


def test_an_api_and_a_client_serve_what_is_in_it(hub: Path) -> None:
    snapshot = hub / "models--org--tiny-1B" / "snapshots" / COMMIT
    assert known_models(hub)["org/tiny-1B"] == snapshot
    config = api_config(("127.0.0.1", 0), (), (), hub)
    assert config is not None
    assert snapshot in config.models


def test_without_a_reference_the_only_snapshot_counts(hub: Path) -> None:
    repository = hub / "models--org--tiny-1B"
    (repository / "refs" / "main").unlink()
    with pytest.raises(UsageFault, match="holds no model"):
        find_model(repository, None)
    (repository / "snapshots" / OLD).rmdir()
    assert find_model(repository, None) == repository / "snapshots" / COMMIT


@pytest.mark.parametrize("reference", ["../../../etc", "", "z" * 40, "\xff"])
def test_a_reference_does_not_climb_out(hub: Path, reference: str) -> None:
    repository = hub / "models--org--tiny-1B"
    (repository / "refs" / "main").write_text(reference)
    with pytest.raises(UsageFault, match="holds no model"):
        find_model(repository, None)


def test_nothing_is_written_into_a_cache(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = sorted(hub.rglob("*"))
    read_manifest(hub / "models--org--tiny-1B" / "snapshots" / COMMIT)
    assert sorted(hub.rglob("*")) == before
    assert len(list((tmp_path / "cache" / "swarm").iterdir())) == 1


def test_links_that_lead_nowhere_are_named_with_their_target(hub: Path) -> None:
    repository = hub / "models--org--tiny-1B"
    (repository / "blobs" / "model.safetensors").unlink()
    with pytest.raises(ModelFault, match=r"model\.safetensors: is a link to \.\./\.\./blobs/model\.safetensors, which"):
        read_manifest(repository / "snapshots" / COMMIT)
    (repository / "blobs" / "config.json").unlink()
    with pytest.raises(
        UsageFault, match=r"config\.json: is a link to \.\./\.\./blobs/config\.json, which is not there"
    ):
        find_model(repository, None)
