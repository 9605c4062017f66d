"""The command line as its users meet it: real processes on loopback."""

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner
from support.models import make_model
from support.processes import SwarmProcess, close_all

from swarm.cli import main
from swarm.cli.keys import held_identity
from swarm.discovery import directory

PROMPT = "one machine is not enough"
SPANS = ("0-2", "3-5", "0-2", "3-5")
LONG = ("--max-tokens", "400", "--raw", PROMPT)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models directory with `tiny`, and `holey` of which only a part will be served."""
    folder = tmp_path_factory.mktemp("models")
    make_model(folder / "tiny", dtype="bf16", tokenizer=True, num_hidden_layers=6, eos_token_id=None)
    make_model(folder / "holey", seed=1, dtype="bf16", tokenizer=True, num_hidden_layers=4)
    return folder


@pytest.fixture(scope="module")
def swarm(models, tmp_path_factory):
    """A bootstrap, two replicas of each half of `tiny`, and one worker of `holey`."""
    folder = tmp_path_factory.mktemp("keys")
    processes = [SwarmProcess.server("bootstrap", folder)]
    try:
        place = processes[0].ready().address
        for name, layers in (*(("tiny", span) for span in SPANS), ("holey", "1-2")):
            model = ("--model", name, "--models-dir", str(models), "--layers", layers, "--threads", "1")
            processes.append(SwarmProcess.server("worker", folder, *model, "--bootstrap", place))
        yield [process.ready() for process in processes]
    finally:
        close_all(processes)


@pytest.fixture
def client(swarm, models, tmp_path, monkeypatch):
    """`swarm client …` in this process, with the swarm and the models known to it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("SWARM_MODELS", str(models))
    monkeypatch.setenv("SWARM_BOOTSTRAP", swarm[0].address)
    return lambda *arguments, **given: CliRunner().invoke(main, ["client", *arguments], **given)


def environment(swarm, models, tmp_path):
    return {"SWARM_BOOTSTRAP": swarm[0].address, "SWARM_MODELS": str(models), "XDG_DATA_HOME": str(tmp_path)}


def test_an_answer_that_fills_the_context_says_so(models, monkeypatch):
    monkeypatch.setenv("SWARM_MODELS", str(models))
    make_model(models / "brief", dtype="bf16", tokenizer=True, eos_token_id=None, max_position_embeddings=40)
    result = CliRunner().invoke(main, ["client", "--local", "--model", "brief", "--raw", "to the end"])
    assert (result.exit_code, result.stderr.count("the model's context is full")) == (0, 1), result.stderr


def test_one_object_says_everything(client):
    result = client(
        "--model", "tiny", "--json", "--max-tokens", "12", "--temperature", "0.8", "--seed", "5", "--raw", PROMPT
    )
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["finish_reason"] == "length"
    assert len(report["token_ids"]) == 12
    assert report["model"]["name"] == "tiny"
    assert [hop["layers"] for hop in report["chain"]] == ["0-2", "3-5"]
    assert (report["exact"], report["precision"]) == (True, "bf16")
    assert report["sampling"]["seed"] == 5
    assert report["timings"]["first_token"] > 0
    local = client(
        "--local",
        "--model",
        "tiny",
        "--json",
        "--max-tokens",
        "12",
        "--temperature",
        "0.8",
        "--seed",
        "5",
        "--raw",
        PROMPT,
    )
    assert json.loads(local.stdout)["token_ids"] == report["token_ids"]
    assert json.loads(local.stdout)["chain"] == []


def test_an_answer_is_audited_before_the_command_ends(swarm, models, tmp_path):
    audit = ("--audit", "1", "--audit-private", "--verbose")
    done = subprocess.run(
        [sys.executable, "-m", "swarm", "client", "--model", "tiny", "--max-tokens", "5", *audit, "--raw", PROMPT],
        env=os.environ | environment(swarm, models, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (verdict,) = [line for line in done.stderr.splitlines() if "audit complete" in line]
    assert "verdict=equal reason=the same bits" in verdict
    assert not (tmp_path / "swarm" / "bans.json").exists()


def test_stdin_is_the_prompt_when_it_is_no_terminal(client):
    piped = client("--model", "tiny", "--max-tokens", "5", "--raw", input=PROMPT)
    given = client("--model", "tiny", "--max-tokens", "5", "--raw", PROMPT)
    assert (piped.exit_code, piped.stdout) == (0, given.stdout)
    empty = client("--model", "tiny", "--raw", input="")
    assert (empty.exit_code, "stdin" in empty.stderr) == (2, True)


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(client):
    whole = json.loads(client("--model", "tiny", "--json", "--max-tokens", "30", "--raw", PROMPT).stdout)["text"]
    stop = whole[10:13]
    result = client("--model", "tiny", "--max-tokens", "30", "--stop", stop, "--raw", PROMPT)
    assert result.stdout == whole[: whole.index(stop)]


def test_a_chain_by_hand_is_kept_to(client, swarm):
    """By ids or their first digits; and one that is too short says where it ends."""
    first, second = swarm[3], swarm[4]
    peers = f"{first.peer[:10]},{second.peer}"
    result = client("--model", "tiny", "--json", "--max-tokens", "3", "--chain", peers, "--raw", PROMPT)
    assert [hop["peer"] for hop in json.loads(result.stdout)["chain"]] == [first.peer, second.peer], result.stderr
    result = client("--model", "tiny", "--chain", first.peer, "--raw", PROMPT)
    assert result.exit_code == 2
    assert "layers 3-5" in result.stderr


def test_one_machine_would_do_and_it_says_so(client):
    result = client("--model", "tiny", "--max-tokens", "2", "--raw", PROMPT)
    assert "swarm client --local --model tiny" in result.stderr
    by_hand = client("--model", "tiny", "--max-tokens", "2", "--local", "--raw", PROMPT)
    assert "hint" not in by_hand.stderr


def test_layers_that_nobody_holds_are_named_at_once_and_at_the_deadline(client):
    result = client("--model", "holey", "--timeout", "1.5", PROMPT)
    assert result.exit_code == 6
    assert result.stdout == ""
    first, *_, last = result.stderr.splitlines()[1:]
    assert "waiting for a worker" in first
    assert "layers 0, 3" in first
    assert "layers 0, 3" in last


def test_a_wrong_model_names_both_digests(client, tmp_path):
    other = make_model(tmp_path / "other" / "holey", seed=9, dtype="bf16", tokenizer=True, num_hidden_layers=4)
    result = client("--model", str(other), "--timeout", "1", PROMPT)
    assert result.exit_code == 3
    digests = {word.strip(":,") for word in result.stderr.split() if len(word.strip(":,")) == 64}
    assert len(digests) == 2


def test_the_only_served_model_that_is_here_is_taken(client, models, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copytree(models / "tiny", alone / "tiny")
    result = client("--models-dir", str(alone), "--max-tokens", "2", "--raw", PROMPT)
    assert result.exit_code == 0, result.stderr
    result = client("--models-dir", str(models), "--max-tokens", "2", "--raw", PROMPT)
    assert result.exit_code == 2
    assert "tiny" in result.stderr
    assert "holey" in result.stderr
    (tmp_path / "empty").mkdir()
    result = client("--models-dir", str(tmp_path / "empty"), PROMPT)
    assert result.exit_code == 2
    assert "serves holey, tiny" in result.stderr


def test_status_shows_workers_load_and_holes(swarm):
    result = CliRunner().invoke(main, ["status", "--json", "--bootstrap", swarm[0].address])
    assert result.exit_code == 0, result.stderr
    models = {model["name"]: model for model in json.loads(result.stdout)["models"]}
    assert models["holey"]["missing"] == ["0", "3"]
    assert models["tiny"]["missing"] == []
    workers = models["tiny"]["workers"]
    assert {worker["peer"] for worker in workers} == {worker.peer for worker in swarm[1:5]}
    assert all(worker["round_trip"] < 1 and worker["load"]["cache_tokens_free"] for worker in workers)
    picture = CliRunner().invoke(main, ["status"], env={"SWARM_BOOTSTRAP": swarm[0].address}).stdout
    assert "nobody serves layers 0, 3" in picture
    assert "███···" in picture


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(directory, "JOIN_ATTEMPTS", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        result = CliRunner().invoke(main, ["status", "--bootstrap", f"127.0.0.1:{port}"])
    assert result.exit_code == 5
    assert f"127.0.0.1 port {port}" in result.stderr


def test_a_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["bootstrap", "--host", "127.0.0.1", "--port", str(port), "--key", str(tmp_path / "key")]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 4
    assert str(port) in result.stderr
    assert result.stdout == ""


def test_a_span_outside_the_model_is_refused_before_it_serves(models, tmp_path, swarm):
    arguments = ["worker", "--model", str(models / "tiny"), "--layers", "4-9", "--host", "127.0.0.1", "--port", "0"]
    result = CliRunner().invoke(main, [*arguments, "--key", str(tmp_path / "key"), "--bootstrap", swarm[0].address])
    assert result.exit_code == 3, result.output
    assert "layers 0-5" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_with_zero_after_exactly_one_line(number, tmp_path):
    with held_identity("bootstrap", tmp_path / "other.key"):
        process = SwarmProcess.server("bootstrap", tmp_path, watched=False, forked=False)
        try:
            process.ready()
            assert process.end(number) == 0
            assert process.rest() == b""
        finally:
            process.close()


def test_a_worker_that_is_told_to_stop_says_so_to_the_swarm(swarm, models, tmp_path):
    model = ("--model", str(models / "tiny"), "--layers", "0-1")
    worker = SwarmProcess.server("worker", tmp_path, *model, "--bootstrap", swarm[0].address)
    try:
        worker.ready()
        assert worker.end() == 0
    finally:
        worker.close()
    result = CliRunner().invoke(main, ["status", "--json", "--bootstrap", swarm[0].address])
    workers = [each for model in json.loads(result.stdout)["models"] for each in model["workers"]]
    assert {each["state"] for each in workers if each["peer"] == worker.peer} <= {"draining"}


def test_a_server_leaves_when_whoever_started_it_is_killed(tmp_path):
    program = "import subprocess, sys\nchild = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\nchild.wait()"
    arguments = [sys.executable, "-m", "swarm", "bootstrap", "--host", "127.0.0.1", "--port", "0"]
    arguments += ["--key", str(tmp_path / "key"), "--exit-with-stdin"]
    parent = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout.readline().startswith(b"ready ")
        parent.kill()
        assert parent.stdout.read() == b""  # ends only when the last holder of the pipe, the server, is gone


def test_ctrl_c_ends_an_answer_with_130(models, tmp_path):
    env = {"SWARM_MODELS": str(models), "XDG_DATA_HOME": str(tmp_path)}
    answering = SwarmProcess("client", "--local", "--model", "tiny", *LONG, watched=False, env=env)
    try:
        answering.read_some()
        assert answering.end(signal.SIGINT) == 130
        assert "Traceback" not in answering.errors()
    finally:
        answering.close()


def test_a_chat_on_a_terminal(models, tmp_path):
    """/help, an answer that Ctrl-C stops, Ctrl-D; over a real terminal."""
    ours, theirs = pty.openpty()
    arguments = ["client", "--local", "--model", "tiny", "--max-tokens", "1500", "--models-dir", str(models)]
    environment = os.environ | {"XDG_DATA_HOME": str(tmp_path), "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-m", "swarm", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        seen = terminal_until(ours, b"> ")
        assert b"tiny" in seen
        os.write(ours, b"/help\n")
        assert b"/peers" in terminal_until(ours, b"> ")
        os.write(ours, b"hello\n")
        terminal_until(ours, b"hello\r\n")
        os.read(ours, 1)
        process.send_signal(signal.SIGINT)
        assert b"stopped" in terminal_until(ours, b"\r\n> ")
        os.write(ours, b"\x04")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def terminal_until(terminal, end):
    seen = b""
    while not seen.endswith(end):
        seen += os.read(terminal, 1)
    return seen


@pytest.fixture(scope="module")
def whole(models):
    """The long answer of the unsplit model, by a process of its own."""
    asked = ("client", "--local", "--model", str(models / "tiny"), "--threads", "1", *LONG)
    local = SwarmProcess(*asked, watched=False, forked=True)
    try:
        return local.rest()
    finally:
        local.close()


def begin(swarm, env, *peers):
    """A client process over a chain by hand, with the long answer to come."""
    chain = ",".join(peer.peer for peer in peers)
    asked = ("client", "--model", "tiny", "--chain", chain, "--threads", "1", "--timeout", "30", *LONG)
    return SwarmProcess(*asked, watched=False, env=env, forked=True)


def test_a_client_as_a_process_writes_the_text_and_nothing_else_and_survives_a_kill(swarm, whole, models, tmp_path):
    client = begin(swarm, environment(swarm, models, tmp_path), swarm[1], swarm[2])
    try:
        begun = client.read_until(whole[40:48])
        swarm[1].process.kill()
        assert begun + client.rest() == whole
        assert client.process.returncode == 0, client.errors()
        assert "recovered in" in client.errors()
        assert f"layers 0-2 are with {swarm[3].peer[:8]}" in client.errors()
    finally:
        client.close()


def test_a_swarm_outlives_its_rendezvous_point(client, swarm):
    """Every worker is one too."""
    swarm[0].process.kill()
    swarm[0].process.wait()
    result = client("--model", "tiny", "--max-tokens", "3", "--raw", PROMPT, env={"SWARM_BOOTSTRAP": swarm[4].address})
    assert result.exit_code == 0, result.stderr
    assert result.stdout


def test_a_worker_that_is_told_to_stop_finishes_the_answer_first(swarm, whole, models, tmp_path):
    env = environment(swarm, models, tmp_path) | {"SWARM_BOOTSTRAP": swarm[4].address}
    client = begin(swarm, env, swarm[3], swarm[2])
    try:
        begun = client.read_until(whole[40:48])
        swarm[2].process.send_signal(signal.SIGTERM)
        assert begun + client.rest() == whole
        assert client.process.returncode == 0, client.errors()
        assert "failed" not in client.errors()
        assert swarm[2].process.wait(30) == 0
    finally:
        client.close()
