"""Which models an API is for, as the options say."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from swarm.cli import main
from swarm.cli.api import api_config
from swarm.errors import UsageFault

PLACE = ("127.0.0.1", 0)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two models that are both called gpt2."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    both = tmp_path / "a" / "gpt2", tmp_path / "b" / "gpt2"
    for folder in both:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    return both


def test_two_models_of_one_name_are_refused_with_both_paths(folders: tuple[Path, Path]) -> None:
    first, second = folders
    with pytest.raises(UsageFault) as fault:
        api_config(PLACE, (), (str(first), str(second)))
    assert str(first) in str(fault.value)
    assert str(second) in str(fault.value)


def test_one_model_named_twice_is_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first, _ = folders
    (tmp_path / "gpt2").symlink_to(first)
    config = api_config(PLACE, (), (str(first), str(first), str(tmp_path / "gpt2")))
    assert config is not None
    assert first in config.models


def test_a_model_that_was_named_goes_before_one_that_was_found(folders: tuple[Path, Path]) -> None:
    first, second = folders
    config = api_config(PLACE, (), (str(second),), first.parent)
    assert config is not None
    assert config.models[:2] == (second, first)


def test_an_address_that_needs_a_key_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(UsageFault, match="give --api-key KEY"):
        api_config(("0.0.0.0", 8080), ())
    assert api_config(("0.0.0.0", 8080), ("KEY",)) is not None


@pytest.mark.parametrize("command", [("worker", "--model", "demo", "--api"), ("api", "--local", "--port")])
def test_a_port_that_is_taken_is_told_before_anything_is_loaded(command: tuple[str, ...], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = CliRunner().invoke(main, [*command, port], env={"XDG_DATA_HOME": str(tmp_path), "SWARM_BOOTSTRAP": ""})
    assert done.exit_code == 4
    assert f"another program listens on port {port} of 127.0.0.1: choose another with {command[-1]}" in done.stderr
    assert "loading" not in done.stderr


def test_an_api_without_a_swarm_is_told_how_to_do_without() -> None:
    done = CliRunner().invoke(main, ["api", "--model", "demo"], env={"SWARM_BOOTSTRAP": ""})
    assert done.exit_code == 2
    assert "compute here with `swarm api --local`" in done.stderr


def test_a_name_is_no_address_to_announce() -> None:
    done = CliRunner().invoke(main, ["worker", "--model", "demo", "--public-host", "home.example.org"])
    assert done.exit_code == 2
    assert "'home.example.org' is no numeric address: write one such as 192.0.2.7" in " ".join(done.stderr.split())
