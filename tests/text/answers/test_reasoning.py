"""Thoughts between marks at the beginning of an answer, in whatever pieces it comes."""

from __future__ import annotations

import pytest

from swarm.text.answers.harmony import Thought
from swarm.text.answers.reasoning import ReasoningReader
from swarm.text.answers.tool_calls import Call, CallReader, More
from swarm.text.answers.tool_formats import HERMES


def read(text: str, size: int, inside: bool = False, inner: CallReader | None = None) -> tuple[str, str, list[Call]]:
    """Thoughts, words and calls."""
    reader = ReasoningReader(inside, inner)
    pieces = [piece for at in range(0, len(text), size) for piece in reader.push(text[at : at + size])]
    pieces += reader.finish()
    thoughts = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    words = "".join(piece for piece in pieces if isinstance(piece, str))
    arguments = "".join(piece.arguments for piece in pieces if isinstance(piece, Call | More))
    return thoughts, words, [Call(piece.name, arguments) for piece in pieces if isinstance(piece, Call)]


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize(
    ("text", "inside", "thoughts", "words"),
    [
        ("<think>\nI see.\n</think>\n\nYes.", False, "\nI see.", "Yes."),
        ("I see.</think>Yes.", True, "I see.", "Yes."),
        ("\n<think></think>\n\n 1 < 2", False, "", " 1 < 2"),
        ("Yes, <think> is a mark </think>.", False, "", "Yes, <think> is a mark </think>."),
        ("<thin ice", False, "", "<thin ice"),
        ("<th", False, "", "<th"),
        ("unfinished </thi", True, "unfinished </thi", ""),
        ("", True, "", ""),
        ("  \n", False, "", "  \n"),
    ],
)
def test_thoughts_are_told_apart(size: int, text: str, inside: bool, thoughts: str, words: str) -> None:
    assert read(text, size, inside) == (thoughts, words, [])


@pytest.mark.parametrize("size", [1, 7, 200])
def test_calls_after_thoughts_are_calls(size: int) -> None:
    text = '<think>add</think>\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert read(text, size, inner=CallReader(HERMES, ())) == ("add", "", [Call("add", '{"a": 1}')])
