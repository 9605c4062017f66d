"""Answers that have to be one thing or a call, in every format; and what a call's arguments may hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swarm.text.answers.call_grammars import answer_or_calls, closed
from swarm.text.answers.tool_formats import FORMATS, ToolFormat, check_tools
from swarm.text.grammar import Grammars
from swarm.text.tokenizer import Text

DEMO, VOCAB = Path(__file__).parents[3] / "swarm" / "demo" / "model", 4096
TEXT = Text.load(DEMO)
GRAMMARS = Grammars(TEXT, VOCAB)
SCHEMA = {
    "type": "object",
    "properties": {"said": {"type": "string"}},
    "required": ["said"],
    "additionalProperties": False,
}
TOOLS = check_tools([{"type": "function", "function": {"name": "clock"}}])
BY_NAME = {form.name: form for form in FORMATS}
CALLS = {
    "hermes": '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>',
    "functions": "<tool_call>\n<function=clock>\n</function>\n</tool_call>",
    "keys": "<tool_call>clock\n</tool_call>",
    "mistral": "[TOOL_CALLS]clock[ARGS]{}",
    "mistral list": '[TOOL_CALLS] [{"name": "clock", "arguments": {}}]',
    "granite": '<|tool_call|>[{"name": "clock", "arguments": {}}]<|/tool_call|>',
    "llama": '{"name":"clock","parameters":{}}',
    "deepseek": "<｜tool▁call▁begin｜>clock<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
}


def takes(form: ToolFormat, answer: str) -> bool:
    """Whether the answer as a whole is allowed."""
    grammar = answer_or_calls(f"%json {json.dumps(SCHEMA)}", form, TOOLS, lambda _: None)
    assert grammar is not None
    matcher = GRAMMARS.lark(grammar)()
    for token in TEXT.encode(answer, add_special=False):
        if not matcher.allowed()[token]:
            return False
        matcher.accept(token)
    return matcher.complete or bool(matcher.allowed()[sorted(TEXT.eos_ids)].any())


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_of_a_schema_may_be_a_call_instead(name: str) -> None:
    assert takes(BY_NAME[name], CALLS[name])
    assert takes(BY_NAME[name], '{"said": "noon"}')
    assert not takes(BY_NAME[name], "It is noon.")
    assert not takes(BY_NAME[name], '{"word": "noon"}')


def test_marks_that_are_tokens_of_their_own_end_a_call() -> None:
    """The demo's marks of turns in their place."""
    begin, end = "<|user|>", "<|assistant|>"
    form = ToolFormat("x", "object", begin, end, shown=(begin, end))
    grammar = answer_or_calls(f"%json {json.dumps(SCHEMA)}", form, TOOLS, TEXT.tokenizer.token_to_id)
    assert grammar is not None
    matcher = GRAMMARS.lark(grammar)()
    for token in TEXT.tokenizer.encode(f"{begin}any words{end}\n{begin}more{end}", add_special_tokens=False).ids:
        assert matcher.allowed()[token]
        matcher.accept(token)
    after = matcher.allowed()
    assert after[sorted(TEXT.eos_ids)].any()
    assert not after[TEXT.encode("words", add_special=False)[0]]


def test_in_channels_thoughts_come_before_an_answer_of_the_schema() -> None:
    """Marks of the demo's in the places of Harmony's."""
    harmony = BY_NAME["harmony"]
    ids = {mark: number for number, mark in enumerate(harmony.shown, 5)}  # any tokens that the words here do not need
    grammar = answer_or_calls(f"%json {json.dumps(SCHEMA)}", harmony, TOOLS, ids.get)
    assert grammar is not None

    def ends(*parts: str) -> bool:
        matcher = GRAMMARS.lark(grammar)()
        for part in parts:
            for token in [ids[part]] if part in ids else TEXT.encode(part, add_special=False):
                if not matcher.allowed()[token]:
                    return False
                matcher.accept(token)
        return matcher.complete or bool(matcher.allowed()[sorted(TEXT.eos_ids)].any())

    thought = ["<|channel|>", "analysis", "<|message|>", "Let me see.", "<|end|>", "<|start|>", "assistant"]
    call = ["<|channel|>", "commentary to=functions.clock ", "<|constrain|>", "json", "<|message|>", "{}", "<|call|>"]
    answer = ["<|channel|>", "final", "<|message|>", '{"said": "noon"}']
    assert ends(*thought, *answer)
    assert ends(*answer)
    assert ends(*thought, *call)
    assert not ends(*thought, *answer[:-1], "It is noon.")
    assert answer_or_calls("/a/", harmony, TOOLS, lambda _: None) is None, (
        "without tokens for them there are no channels"
    )


OBJECT = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {}}}, "c": {"type": "object"}}}
SHUT = {"additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, {"type": "object"} | SHUT),
        ({"type": "object", "properties": {}}, {"type": "object", "properties": {}} | SHUT),
        (OBJECT, {"type": "object", "properties": {"a": OBJECT["properties"]["a"] | SHUT, "c": {"type": "object"}}} | SHUT),  # type: ignore[index]
        ({"properties": {"properties": {}}}, {"type": "object", "properties": {"properties": {}}} | SHUT),
        ({"type": "object", "additionalProperties": True}, None),
        ({"type": "object", "required": ["a"]}, None),
        ({"type": "object", "properties": {"a": {}}, "oneOf": [{"properties": {"b": {}}}]}, None),
        ({"type": "object", "allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, None),
        ({"type": "object", "patternProperties": {"^x": {}}}, None),
    ],
)  # fmt: skip
def test_objects_are_closed_unless_the_schema_opens_them(schema: Any, expected: Any) -> None:
    assert closed(schema) == (schema if expected is None else expected)
