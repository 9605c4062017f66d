"""PROMPT and stdin: what is asked, and that nobody waits for a stdin into which nobody writes."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest

from swarm.cli.answer import prompt as module
from swarm.cli.answer.prompt import whole_prompt
from swarm.cli.answer.request import Request
from swarm.errors import PromptTooLong, UsageFault


@pytest.fixture
def asked(monkeypatch):
    """What is asked with this stdin (text, or an open descriptor), and what was noted."""
    notes: list[str] = []

    def ask(stdin, prompt="summarise", **more):
        source = stdin if stdin is None or not isinstance(stdin, int) else open(stdin, encoding="utf-8")  # noqa: SIM115
        monkeypatch.setattr("sys.stdin", source)
        try:
            return whole_prompt(Request(prompt, **more), notes.append)
        finally:
            if source is not None:
                source.close()

    ask.notes = notes
    return ask


def piped(data: bytes) -> int:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


def test_a_prompt_and_what_is_piped_are_asked_together(asked, tmp_path: Path):
    assert asked(piped("zwölf\n".encode())) == "summarise\n\nzwölf\n"
    (tmp_path / "file").write_text("of a file")
    assert asked(os.open(tmp_path / "file", os.O_RDONLY)) == "summarise\n\nof a file"
    ours, theirs = socket.socketpair()
    ours.sendall(b"of a socket")
    ours.close()
    assert asked(theirs.detach()) == "summarise\n\nof a socket"
    assert asked(piped(b"alone"), None) == "alone"
    assert asked(piped(b"text"), "") == "text"
    assert asked.notes == []


def test_a_stdin_that_holds_nothing_leaves_the_prompt_as_it_is(asked):
    terminal, other = os.openpty()
    assert asked(other) == "summarise"
    os.close(terminal)
    assert asked(piped(b"")) == asked(piped(b" \n")) == "summarise"
    assert asked(os.open(os.devnull, os.O_RDONLY)) == "summarise"
    assert asked(os.open("/dev/zero", os.O_RDONLY)) == "summarise"
    assert asked(None) == asked(io.StringIO("no file")) == "summarise"
    assert asked.notes == []
    with pytest.raises(UsageFault, match="stdin is empty, and no PROMPT"):
        asked(None, None)


def test_a_pipe_into_which_nobody_writes_is_not_awaited_for_ever(asked, monkeypatch):
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.01)
    reader, writer = os.pipe()
    assert asked(reader) == "summarise"
    os.close(writer)
    assert "PROMPT is answered alone" in asked.notes[0]


def test_an_endless_stdin_is_read_to_a_bound_and_the_models_context_is_named(asked, monkeypatch):
    monkeypatch.setattr(module, "CHARACTERS_A_TOKEN", 2)
    for prompt in (None, "summarise"):
        with pytest.raises(PromptTooLong, match=r"more than 4096 characters.*: the context of demo is 2048 tokens"):
            asked(piped(b"y" * 4097), prompt, local=True)
    assert asked(piped(b"y" * 4096), None, model="demo") == "y" * 4096
    monkeypatch.setattr(module, "MAX_CHARACTERS", 1000)
    with pytest.raises(PromptTooLong, match=r"more than 1000 characters.*: no model's context takes so much"):
        asked(os.open("/dev/zero", os.O_RDONLY), None)


def test_what_is_no_text_is_told(asked):
    with pytest.raises(UsageFault, match="stdin is no text"):
        asked(piped(b"\xff"))
