"""Grammars: what an answer is held to, whatever the model would rather say."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarm.errors import LocalFault, UsageFault
from swarm.text.grammar import MAX_GRAMMAR_BYTES, Grammars, Matcher
from swarm.text.tokenizer import Text

DEMO = Path(__file__).parents[2] / "swarm" / "demo" / "model"
VOCAB = 4096
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["ada", "bob"]}, "age": {"type": "integer", "minimum": 0, "maximum": 199}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def text() -> Text:
    return Text.load(DEMO)


@pytest.fixture(scope="module")
def grammars(text: Text) -> Grammars:
    return Grammars(text, VOCAB)


def babble(matcher: Matcher, text: Text, seed: int, most: int = 400) -> str:
    """What a model without any sense says under the constraint."""
    dice, ids = random.Random(seed), list[int]()
    for _ in range(most):
        token = int(dice.choice(np.flatnonzero(matcher.allowed())))
        matcher.accept(token)
        if token in text.eos_ids:
            return text.decode(ids)
        ids.append(token)
    raise AssertionError(f"no end: {text.decode(ids)!r}")


@pytest.mark.parametrize("seed", range(5))
def test_babble_is_of_the_schema(grammars: Grammars, text: Text, seed: int) -> None:
    said = json.loads(babble(grammars.json_schema(SCHEMA)(), text, seed))
    assert said.keys() == {"name", "age"}
    assert said["name"] in ("ada", "bob")
    assert 0 <= said["age"] <= 199


def test_every_answer_begins_anew(grammars: Grammars, text: Text) -> None:
    make = grammars.regex("(yes|no)")
    assert {babble(make(), text, seed) for seed in range(12)} == {"yes", "no"}


def test_a_lark_grammar(grammars: Grammars, text: Text) -> None:
    assert babble(grammars.lark('start: "a" "b"+ "c"')(), text, 1).strip("b") != ""


def test_a_json_object_is_one(grammars: Grammars) -> None:
    begins = np.flatnonzero(grammars.json_object()().allowed())
    assert 0 < len(begins) < 40, "an object begins with a brace"


def test_blanks_between_tokens_of_json_are_few(grammars: Grammars, text: Text) -> None:
    """Of a model that writes one wherever it may."""
    matcher = grammars.json_object()()
    for word in ("{", '"a"', ":", "[", "1", ","):
        for token in text.encode(word, add_special=False):
            matcher.accept(token)
        blank = text.encode(" ", add_special=False)[0]
        count = 0
        while word != '"a"' and matcher.allowed()[blank]:
            matcher.accept(blank)
            count += 1
        assert count <= 8


@pytest.mark.parametrize(
    ("kind", "source", "complaint"),
    [
        ("json_schema", {"type": 3}, "json_schema cannot be honoured"),
        ("json_schema", "{", "json_schema cannot be honoured"),
        ("json_schema", {"enum": ["x" * MAX_GRAMMAR_BYTES]}, "longer than"),
        ("regex", "[0-9", "regex cannot be honoured"),
        ("lark", "start: nothing", "grammar cannot be honoured"),
    ],
)
def test_what_cannot_be_honoured_is_said(grammars: Grammars, kind: str, source: Any, complaint: str) -> None:
    with pytest.raises(UsageFault, match=complaint):
        getattr(grammars, kind)(source)


def test_a_token_that_was_not_allowed_is_a_bug_of_ours(grammars: Grammars, text: Text) -> None:
    matcher = grammars.regex("yes")()
    wrong = text.encode("no", add_special=False)[0]
    with pytest.raises(LocalFault, match="was drawn though"):
        matcher.accept(wrong)
