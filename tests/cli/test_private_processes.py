"""A private swarm as its operators meet it: real processes on loopback, members with the key file and strangers without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from click.testing import CliRunner
from support.models import make_model
from support.processes import SwarmProcess, close_all

from swarm.cli import main
from swarm.identity import Identity

PROMPT = "one machine is not enough"
ASKED = ("--model", "tiny", "--threads", "1", "--max-tokens", "8", "--raw", PROMPT)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A models directory, two swarm keys and a client's identity."""
    folder = tmp_path_factory.mktemp("private")
    make_model(folder / "tiny", dtype="bf16", tokenizer=True, num_hidden_layers=4, eos_token_id=None)
    for name in ("ours", "theirs"):
        assert CliRunner().invoke(main, ["key", "new", str(folder / name)]).exit_code == 0
    return folder


@pytest.fixture(scope="module")
def swarm(home):
    """A bootstrap and two workers, all with our key; the second half is for one client alone."""
    friend = Identity.load_or_create(home / "friend.key").peer_id
    processes = [SwarmProcess.server("bootstrap", home, "--swarm-key", str(home / "ours"))]
    try:
        place = processes[0].ready().address
        for span, only in (("0-1", ()), ("2-3", ("--allow", str(friend)))):
            model = ("--model", "tiny", "--models-dir", str(home), "--layers", span, "--threads", "1", *only)
            joining = ("--bootstrap", place, "--swarm-key", str(home / "ours"))
            processes.append(SwarmProcess.server("worker", home, *model, *joining))
        yield [process.ready() for process in processes]
    finally:
        close_all(processes)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_all(swarm, home):
    """Commands as processes, all at once, with the swarm and the models known to them, and no key unless they are given one."""
    known = {"SWARM_MODELS": str(home), "SWARM_BOOTSTRAP": swarm[0].address, "XDG_DATA_HOME": str(home)}

    def commands(*each, **more):
        started = [SwarmProcess(*map(str, words), watched=False, env=known | more, forked=True) for words in each]
        try:
            said = [process.rest(90).decode() for process in started]
            return [
                Done(process.process.returncode, text, process.errors())
                for process, text in zip(started, said, strict=True)
            ]
        finally:
            close_all(started)

    return commands


@pytest.fixture
def run(run_all):
    return lambda *words, **more: run_all(words, **more)[0]


def test_a_member_is_answered_as_by_the_unsplit_model(run, home):
    alone = run("client", "--local", *ASKED)
    answer = run("client", "--swarm-key", home / "ours", "--key", home / "friend.key", *ASKED)
    assert (answer.returncode, answer.stdout) == (0, alone.stdout), answer.stderr
    answer = run("client", "--key", home / "friend.key", *ASKED, SWARM_KEY=str(home / "ours"))
    assert (answer.returncode, answer.stdout) == (0, alone.stdout), answer.stderr


def test_a_stranger_is_told_why_and_sees_nothing(run_all, home):
    of_another = ("status", "--swarm-key", home / "theirs")
    *without, refused = run_all(("client", *ASKED), ("status", "--json"), of_another)
    for each in without:
        assert (each.returncode, each.stdout) == (5, ""), each.stderr
        assert (
            "is of a private swarm, and no key of it was given here: name the key file with --swarm-key" in each.stderr
        )
    assert refused.returncode == 5
    assert "is of another private swarm" in refused.stderr


def test_a_stranger_cannot_serve(run, home, swarm):
    worker = ("--model", "tiny", "--models-dir", str(home), "--layers", "0-1", "--bootstrap", swarm[0].address)
    stranger = SwarmProcess.server("worker", home, *worker, watched=False)
    try:
        assert stranger.rest() == b""
        assert stranger.process.returncode == 5
        assert "is of a private swarm" in stranger.errors()
    finally:
        stranger.close()
    models = json.loads(run("status", "--json", "--swarm-key", home / "ours").stdout)["models"]
    assert {worker["peer"] for model in models for worker in model["workers"]} == {each.peer for each in swarm[1:]}


def test_a_member_that_was_not_named_is_refused_in_words(run, home):
    refused = run("client", "--swarm-key", home / "ours", "--key", home / "other.key", *ASKED)
    other = Identity.load_or_create(home / "other.key").peer_id
    assert refused.returncode == 9, refused.stderr
    assert f"it serves only peers named with --allow, and {other} is none of them" in refused.stderr


def test_a_bootstrap_takes_the_same_options(home):
    """`python -m bootstrap`."""
    arguments = [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--key",
        str(home / "b.key"),
        "--swarm-key",
        str(home / "absent"),
    ]
    environment = os.environ | {"SWARM_BOOTSTRAP": "", "SWARM_KEY": ""}
    done = subprocess.run(
        [sys.executable, "-m", "bootstrap", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert "absent cannot be read" in done.stderr
