"""Calls of tools in every format that models write, in whatever pieces the text comes."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import UsageFault
from swarm.text.answers.call_grammars import forced
from swarm.text.answers.harmony import HarmonyReader, Thought
from swarm.text.answers.tool_calls import Call, CallReader, More
from swarm.text.answers.tool_formats import FORMATS, HERMES, ToolFormat, check_tools, format_of, told
from swarm.text.grammar import Grammars
from swarm.text.tokenizer import Text

DEMO, VOCAB = Path(__file__).parents[3] / "swarm" / "demo" / "model", 4096
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How it is outside",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
CLOCK: dict[str, Any] = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
}
TOOLS = [WEATHER, CLOCK]
BY_NAME = {form.name: form for form in FORMATS}
KÖLN = {"city": "Köln", "days": 2}

# name of a format, an answer, and what is in it
ANSWERS: list[tuple[str, str, list[str | tuple[str, dict[str, Any]]]]] = [
    (
        "hermes",
        (
            'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": 2}}\n</tool_call>\n'
            '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
        ),
        ["Let me see.\n", ("weather", KÖLN), ("clock", {})],
    ),
    ("hermes", "Is 1 <tool_call a mark? No.", ["Is 1 <tool_call a mark? No."]),
    ("hermes", "<tool_call>\nnonsense\n</tool_call> after", ["<tool_call>\nnonsense\n</tool_call> after"]),
    ("hermes", '<tool_call>{"name": "clock", "arguments": "{}"}', [("clock", {})]),
    (
        "mistral",
        '[TOOL_CALLS]weather[ARGS]{"city": "Köln", "days": 2}[TOOL_CALLS]clock[ARGS]{}',
        [("weather", KÖLN), ("clock", {})],
    ),
    ("mistral", '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Köln", "days": 2}}]', [("weather", KÖLN)]),
    (
        "mistral list",
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Köln", "days": 2}}, {"name": "clock", "arguments": {}}]',
        [("weather", KÖLN), ("clock", {})],
    ),
    ("granite", '<|tool_call|>[{"name": "weather", "arguments": {"city": "Köln", "days": 2}}]', [("weather", KÖLN)]),
    ("granite", '<|tool_call|>[{"name": "clock", "arguments": {}}]<|/tool_call|>', [("clock", {})]),
    ("llama", '{"name": "weather", "parameters": {"city": "Köln", "days": 2}}', [("weather", KÖLN)]),
    (
        "llama",
        '<|python_tag|>{"name": "clock", "parameters": {}}; {"name": "weather", "parameters": {"city": "Köln", "days": 2}}',
        [("clock", {}), ("weather", KÖLN)],
    ),
    ("llama", 'It is {"name": "clock"} that I mean', ['It is {"name": "clock"} that I mean']),
    ("llama", '{"no": "call"} at all', ['{"no": "call"} at all']),
    (
        "functions",
        "<tool_call>\n<function=weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
        [("weather", KÖLN)],
    ),
    (
        "keys",
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
        [("weather", KÖLN)],
    ),
    (
        "deepseek",
        '<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"city": "Köln", "days": 2}\n```<｜tool▁call▁end｜>',
        [("weather", KÖLN)],
    ),
    ("deepseek", "<｜tool▁call▁begin｜>clock<｜tool▁sep｜>{}<｜tool▁call▁end｜>", [("clock", {})]),
]


def pieces_of(reader: CallReader | HarmonyReader, parts: list[str]) -> list[Any]:
    """What the reader gives, neighbouring texts joined."""
    found: list[Any] = []
    for piece in [piece for part in parts for piece in reader.push(part)] + [*reader.finish()]:
        if isinstance(piece, Call):
            found.append((piece.name, [piece.arguments]))
        elif isinstance(piece, More):
            found[-1][1].append(piece.arguments)
        elif found and isinstance(found[-1], str) and isinstance(piece, str):
            found[-1] += piece
        elif found and isinstance(found[-1], Thought) and isinstance(piece, Thought):
            found[-1] = Thought(found[-1].text + piece.text)
        else:
            found.append(piece)
    return [(piece[0], json.loads("".join(piece[1]))) if isinstance(piece, tuple) else piece for piece in found]


@pytest.mark.parametrize(("name", "answer", "expected"), ANSWERS)
def test_calls_are_read(name: str, answer: str, expected: list[Any]) -> None:
    assert pieces_of(CallReader(BY_NAME[name], TOOLS), [answer]) == expected
    assert pieces_of(CallReader(BY_NAME[name], TOOLS), list(answer)) == expected


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 200), max_size=8))
@settings(max_examples=150, deadline=None)
def test_in_whatever_pieces_they_come(case: tuple[str, str, list[Any]], cuts: list[int]) -> None:
    name, answer, expected = case
    places = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    assert pieces_of(CallReader(BY_NAME[name], TOOLS), [answer[a:b] for a, b in pairwise(places)]) == expected


@given(st.sampled_from(FORMATS), st.text(st.sampled_from('<>{}[]|"\\tol_caTOLCAS:, n'), max_size=80))
@settings(max_examples=150, deadline=None)
def test_what_is_no_call_is_text(form: ToolFormat, answer: str) -> None:
    whole = pieces_of(CallReader(form, TOOLS), [answer])
    if not any(isinstance(piece, tuple) for piece in whole):
        assert "".join(whole).replace(" ", "") == answer.replace(" ", "")


BEGIN = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
CUT = [  # answers that max_tokens ended, by format: the text, the call's name, its arguments so far
    ("hermes", 'See.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Kö', "See.\n", "weather", '{"city": "Kö'),
    ("hermes", '<tool_call>\n{"name": "weather", "argum', "", "weather", ""),
    ("hermes", '<tool_call>\n{"nam', "", None, ""),
    ("hermes", '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool', "", "clock", "{}"),
    ("hermes", '<tool_call>\n{"name": "clock", "arguments": {}', "", "clock", "{}"),
    ("mistral", '[TOOL_CALLS]weather[ARGS]{"city": ', "", "weather", '{"city": '),
    ("mistral", "[TOOL_CALLS]wea", "", None, ""),
    ("mistral list", '[TOOL_CALLS] [{"name": "weather", "arguments": {"city"', "", "weather", '{"city"'),
    ("granite", '<|tool_call|>[{"name": "clock", "arguments": {}}]<|/to', "", "clock", "{}"),
    ("llama", '{"name": "weather", "parameters": {"city": "Kö', "", "weather", '{"city": "Kö'),
    ("llama", '{"name": "ada", "parameters": {"a', '{"name": "ada", "parameters": {"a', None, ""),
    (
        "functions",
        "<tool_call>\n<function=weather>\n<parameter=city>\nKö\n</par",
        "",
        "weather",
        '{"city": "Kö',
    ),
    ("keys", "<tool_call>weather\n<arg_key>days</arg_key>\n<arg_value>1", "", "weather", '{"days": '),
    ("deepseek", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{", "", "weather", "{"),
]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("name", "answer", "words", "called", "arguments"), CUT)
def test_a_call_that_is_cut_off_is_one_with_cut_arguments(
    size: int, name: str, answer: str, words: str, called: str | None, arguments: str
) -> None:
    reader = CallReader(BY_NAME[name], TOOLS)
    pieces = [piece for at in range(0, len(answer), size) for piece in reader.push(answer[at : at + size])]
    pieces += reader.finish(cut=True)
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == words
    assert [piece.name for piece in pieces if isinstance(piece, Call)] == ([called] if called else [])
    assert "".join(piece.arguments for piece in pieces if isinstance(piece, Call | More)) == arguments


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("hermes", '<tool_call>{"name": "write", "arguments": {"text": "SAID"}}</tool_call>'),
        ("mistral", '[TOOL_CALLS]write[ARGS]{"text": "SAID"}'),
        ("mistral list", '[TOOL_CALLS][{"name": "write", "arguments": {"text": "SAID"}}]'),
        ("granite", '<|tool_call|>[{"name": "write", "arguments": {"text": "SAID"}}]'),
        ("llama", '{"name": "write", "parameters": {"text": "SAID"}}'),
        ("functions", "<tool_call><function=write><parameter=text>\nSAID\n</parameter></function></tool_call>"),
        ("keys", "<tool_call>write<arg_key>text</arg_key><arg_value>SAID</arg_value></tool_call>"),
        ("deepseek", BEGIN + 'write<｜tool▁sep｜>{"text": "SAID"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'),
        ("harmony", '<|channel|>commentary to=functions.write <|message|>{"text": "SAID"}<|call|>'),
    ],
)  # fmt: skip
def test_arguments_are_told_as_they_are_written(name: str, answer: str) -> None:
    write = {
        "type": "function",
        "function": {"name": "write", "parameters": {"properties": {"text": {"type": "string"}}}},
    }
    said = "a long text " * 20
    before, after = answer.split("SAID")
    reader = HarmonyReader() if name == "harmony" else CallReader(BY_NAME[name], [write])
    pieces = [piece for sign in before for piece in reader.push(sign)]
    assert [piece.name for piece in pieces if isinstance(piece, Call)] == ["write"]
    for word in said.split(" ")[:-1]:
        pieces = reader.push(f"{word} ")
        assert "".join(piece.arguments for piece in pieces if isinstance(piece, More)).strip() == word
    pieces = [*reader.push(after), *reader.finish()]
    assert "".join(piece.arguments for piece in pieces if isinstance(piece, More)).strip() == '"}'
    assert [piece.last for piece in pieces if isinstance(piece, More)][-1]
    assert not any(isinstance(piece, str) for piece in pieces), "marks are no text"


def test_line_ends_in_arguments_are_written_as_json_has_them() -> None:
    answer = '<tool_call>{"name": "weather", "arguments": {"city": "two\nlines\\n\t\\"x\\" }"}}</tool_call>'
    assert pieces_of(CallReader(HERMES, TOOLS), list(answer)) == [("weather", {"city": 'two\nlines\n\t"x" }'})]


def test_an_object_with_a_name_is_a_call_only_of_a_tool_where_nothing_else_marks_it() -> None:
    said = '{"name": "ada", "age": 3}'
    assert pieces_of(CallReader(BY_NAME["llama"], TOOLS), [said]) == [said]


HARMONY = (
    "<|channel|>analysis<|message|>The user wants weather.<|end|><|start|>assistant<|channel|>commentary to=functions.weather "
    '<|constrain|>json<|message|>{"city": "Köln", "days": 2}<|call|><|start|>assistant<|channel|>final<|message|>'
    "It rains.<|return|>"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_channels_are_read(size: int) -> None:
    parts = [HARMONY[place : place + size] for place in range(0, len(HARMONY), size)]
    assert pieces_of(HarmonyReader(), parts) == [Thought("The user wants weather."), ("weather", KÖLN), "It rains."]


def test_an_answer_that_breaks_off_in_a_channel() -> None:
    assert pieces_of(HarmonyReader(), ["<|channel|>final<|message|>It ra"]) == ["It ra"]
    assert pieces_of(HarmonyReader(), ["<|channel|>fin"]) == []


def test_the_template_says_the_format() -> None:
    assert format_of("{{ '<tool_call>' }}") is HERMES
    assert format_of("<tool_call><function=x>").name == "functions"
    assert format_of("[TOOL_CALLS] [ARGS]").name == "mistral"
    assert format_of("[TOOL_CALLS]").name == "mistral list"
    assert format_of("nothing of the kind") is HERMES


@pytest.mark.parametrize("name", ["hermes", "mistral", "mistral list", "granite", "llama"])
def test_an_answer_can_be_held_to_a_call(name: str) -> None:
    """Whatever is said under the grammar, is read as one call whose arguments are of the schema."""
    text = Text.load(DEMO)
    days = {
        "type": "object",
        "properties": {"days": {"enum": [1, 2]}},
        "required": ["days"],
        "additionalProperties": False,
    }
    tools = check_tools([{"type": "function", "function": {"name": "weather", "parameters": days}}])
    grammar = forced(BY_NAME[name], tools, lambda _: None)
    assert grammar is not None
    matcher, dice, ids = Grammars(text, VOCAB).lark(grammar)(), random.Random(3), list[int]()
    for _ in range(600):
        token = int(dice.choice(np.flatnonzero(matcher.allowed())))
        matcher.accept(token)
        if token in text.eos_ids:
            break
        ids.append(token)
    ((called, arguments),) = pieces_of(CallReader(BY_NAME[name], TOOLS), [text.decode(ids)])
    assert called == "weather"
    assert arguments["days"] in (1, 2)


def test_a_template_without_tools_is_told_in_words() -> None:
    call = {"function": {"name": "clock", "arguments": "{}"}}
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "noon"},
    ]
    system, user, assistant, result = told(talk, TOOLS)
    assert "weather" in system["content"]
    assert system["role"] == "system"
    assert user == talk[0]
    assert pieces_of(CallReader(HERMES, TOOLS), [assistant["content"]]) == [("clock", {})]
    assert result["role"] == "user"
    assert "noon" in result["content"]
    assert told([{"role": "system", "content": "Be brief."}], TOOLS)[0]["content"].startswith("Be brief.\n\n")


@pytest.mark.parametrize(
    ("tools", "complaint"),
    [
        ([{"type": "web_search"}], r"tools\[0\] is no function"),
        (["x"], r"tools\[0\] is no function"),
        ([WEATHER, {"type": "function", "function": {}}], r"tools\[1\]\.function needs a name"),
        ([{"type": "function", "function": {"name": "f", "parameters": 3}}], "JSON schema"),
        ([WEATHER] * 1025, "at most 1024"),
        ([{"type": "function", "function": {"name": "f", "description": "x" * (1 << 20)}}], "more than"),
    ],
)
def test_what_is_no_tool_is_named(tools: list[Any], complaint: str) -> None:
    with pytest.raises(UsageFault, match=complaint):
        check_tools(tools)
