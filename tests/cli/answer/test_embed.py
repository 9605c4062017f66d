"""`swarm client --embed`: JSON arrays on stdout and nothing else, from one process and from a swarm that loses a worker."""

import json
import os

import pytest
from click.testing import CliRunner
from support.embedders import make_embedder
from support.models import make_model
from support.processes import SwarmProcess, close_all

from swarm.cli import main

TEXTS = ["The quick brown fox", "the dog sleeps; the fox does not", ""]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_embedder(folder / "bert", "cls_token", unit=True, most=16)
    make_model(folder / "llama", dtype="bf16", tokenizer=True)
    return folder


def run(models, *arguments, **given):
    return CliRunner().invoke(main, ["client", "--models-dir", str(models), *arguments], **given)


def vector(models, text, name="bert"):
    result = run(models, "--local", "--model", name, "--embed", text)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_line_of_json_for_a_text_and_for_each_line_of_stdin(models, name):
    one = vector(models, TEXTS[0], name)
    assert len(one) == 64
    assert sum(x * x for x in one) == pytest.approx(1.0, abs=1e-4)
    lines = run(models, "--local", "--model", name, "--embed", "-", input="\n".join([*TEXTS, TEXTS[0]]) + "\r\n")
    assert (lines.exit_code, lines.stderr) == (0, "")
    vectors = [json.loads(line) for line in lines.stdout.splitlines()]
    assert len(vectors) == 4
    assert vectors[0] == vectors[3] == one
    assert vectors[1] == vector(models, TEXTS[1], name)


def test_a_text_that_is_cut_is_warned_of(models):
    result = run(models, "--local", "--model", "bert", "--embed", "the dog sleeps " * 9)
    assert result.exit_code == 0
    assert "warning: a text of 38 tokens is cut to the 16 that the model's files allow" in result.stderr
    assert json.loads(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (("--embed", "a", "an answer"), {}, "--embed TEXT makes a vector and PROMPT asks for an answer"),
        (
            ("--embed", "a", "--temperature", "1", "--max-tokens", "2", "--stop", "b", "--stop-id", "3"),
            {},
            "--temperature, --max-tokens, --stop, --stop-id: --embed writes no answer; leave them out",
        ),
        (("--embed", "a", "--raw"), {}, "--raw: --embed writes no answer; leave it out"),
        (("--embed", "-"), {"input": b"ok\n\xff\n"}, "stdin is no text"),
        (("an answer",), {}, "bert is an encoder: it gives vectors of texts and writes none"),
        (("--raw", "an answer"), {}, "Ask with `swarm client --embed TEXT`, or POST /v1/embeddings"),
    ],
)
def test_what_does_not_go_together_is_said(models, arguments, given, said):
    result = run(models, "--local", "--model", "bert", *arguments, **given)
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_line_that_does_not_go_through_is_named(models):
    result = run(models, "--local", "--model", "llama", "--embed", "-", input="short\n" + "x" * 3000 + "\n")
    assert result.exit_code == 2
    assert "line 2: the text has 3001 tokens; the model takes 2047" in result.stderr


def test_a_chat_with_an_encoder_is_refused(models):
    terminal, other = os.openpty()
    chat = SwarmProcess("client", "--local", "--models-dir", str(models), "--model", "bert", watched=False, stdin=other)
    try:
        assert chat.process.wait(60) == 2
        assert "bert is an encoder" in chat.errors()
    finally:
        chat.close()
        os.close(terminal)
        os.close(other)


def test_a_swarm_gives_the_vectors_of_one_process_before_and_after_a_kill(models, tmp_path):
    bootstrap = SwarmProcess.server("bootstrap", tmp_path)
    processes = [bootstrap]
    try:
        place = bootstrap.ready().address
        options = ("--model", "bert", "--models-dir", str(models), "--threads", "1")
        for layers in ("0-0", "1-2", "1-2"):
            worker = SwarmProcess.server("worker", tmp_path, *options, "--layers", layers, "--bootstrap", place)
            processes.append(worker)
        for process in processes:
            process.ready()
        env = {"XDG_DATA_HOME": str(tmp_path)}
        alone = SwarmProcess("client", *options, "--local", "--embed", TEXTS[0], watched=False, forked=True)
        asked = ("client", *options, "--bootstrap", place, "--audit", "0", "-v", "--embed", "-")
        client = SwarmProcess(*asked, watched=False, env=env, forked=True)
        processes += [alone, client]
        expected = json.loads(alone.rest(seconds=60))

        def told():
            client.process.stdin.write(TEXTS[0].encode() + b"\n")
            client.process.stdin.flush()
            return json.loads(client.read_until(b"\n"))

        assert told() == expected  # although more lines may come
        asked = [line for line in client.errors().splitlines() if "hop.forward" in line]
        used = [each for line in asked for each in processes[2:4] if each.peer[:8] in line]
        used[-1].process.kill()
        assert told() == expected
        assert client.rest(seconds=60) == b""
        assert client.process.returncode == 0, client.errors()
    finally:
        close_all(processes)
