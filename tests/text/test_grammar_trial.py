"""Grammars that would take their compiler years are refused in time; others are compiled, and end where they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swarm.errors import UsageFault
from swarm.text import grammar_trial
from swarm.text.grammar import Grammars
from swarm.text.tokenizer import Text

DEMO = Path(__file__).parents[2] / "swarm" / "demo" / "model"
TEXT = Text.load(DEMO)
GRAMMARS = Grammars(TEXT, 4096)


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"type": "string", "pattern": f".*a{number}.*"} for number in range(60)]},
        {"type": "integer", "minimum": 0, "maximum": 10**18, "multipleOf": 9_999_991},
    ],
)
def test_a_hostile_schema_is_refused(schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_trial, "WAIT_SECONDS", 2.0)
    with pytest.raises(UsageFault, match="json_schema takes too long to prepare"):
        GRAMMARS.json_schema(schema)


@pytest.mark.parametrize("eos", [True, False])
def test_an_answer_is_complete_where_nothing_can_follow(eos: bool) -> None:
    text = TEXT if eos else Text(TEXT.tokenizer, frozenset(), TEXT._template, DEMO)
    matcher = Grammars(text, 4096).json_schema({"enum": ["yes"]})()
    for token in text.encode(json.dumps("yes"), add_special=False):
        assert not matcher.complete
        assert matcher.allowed()[token]
        matcher.accept(token)
    assert matcher.complete


def test_a_grammar_that_passed_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    known = grammar_trial.Trial()
    known.check("regex", "start: /a/")
    monkeypatch.setattr(grammar_trial.subprocess, "run", None)
    known.check("regex", "start: /a/")
