"""Grammars (Lark, in llguidance's dialect) of answers that are a call of a tool, or have to be one thing or a call.

Formats of calls are `tool_formats`' business. Pure: grammars are text here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from swarm.text.answers.tool_formats import HERMES, Tool, ToolFormat

# Forced calls are written without spaces between tokens of JSON: a small model may go on with spaces for ever.
TIGHT = {"x-guidance": {"whitespace_flexible": False}}
# What a schema says beyond what a grammar can hold to is for strict tools only a reason to refuse.
LOOSE = {"x-guidance": {"whitespace_flexible": False, "lenient": True}}
# With these, what an object may hold is said in several places, none of which can be closed by itself.
_JOINED = ("allOf", "if", "dependentSchemas", "unevaluatedProperties")
_OPEN = ("additionalProperties", "patternProperties", "anyOf", "oneOf", "$ref")
_WORDS = r"/(.|\n)*/"

IdOf = Callable[[str], int | None]  # a special token's id


def forced(form: ToolFormat, tools: Sequence[Tool], id_of: IdOf) -> str | None:
    """Answers that are one call of one of these tools. None for formats whose arguments are not JSON."""
    if form.body not in ("object", "list", "named"):
        return None
    calls, rules = _calls(form, tools, id_of)
    return "\n".join([f"start: {calls}", *rules])


def answer_or_calls(answer: str, form: ToolFormat, tools: Sequence[Tool], id_of: IdOf) -> str | None:
    """Answers of the expression `answer`, or calls in the model's own way. None for a format that this cannot be said of."""
    if form.body == "harmony":
        return _in_channels(answer, form, id_of)
    if not form.begin:
        calls, rules = _calls(form, tools, id_of, apart=True)
        return "\n".join(["start: answer | " + calls, f"answer: {answer}", *rules])
    inner = [
        number for text in form.shown if (number := id_of(text)) is not None and text not in (form.begin, form.end)
    ]
    body = f"({_WORDS} | <[{','.join(map(str, inner))}]>)*" if inner else _WORDS
    begin, end = _mark(form, form.begin, id_of), _mark(form, form.end, id_of)
    # A mark that is a token of its own no words hold: what follows it is another call or nothing.
    several, rest = ("+", rf"{end} /\s*/") if end.startswith("<") else ("", "")
    return "\n".join(
        [f"start: answer | call{several}", f"call: {begin} body {rest}", f"body: {body}", f"answer: {answer}"]
    )


def _in_channels(answer: str, form: ToolFormat, id_of: IdOf) -> str | None:
    """Thoughts in their channels, then a call or what is for the reader."""
    ids = {text: id_of(text) for text in form.shown}
    if any(number is None for number in ids.values()):
        return None
    start, channel, message, constrain, end, call, _ = (f"<[{ids[text]}]>" for text in form.shown)
    return "\n".join(
        [
            f'start: (thought {start} "assistant")* (called | {channel} "final" (/ ?/ {constrain} "json")? {message} answer)',
            f"thought: {channel} /(analysis|commentary)/ {message} {_WORDS} {end}",
            f"called: {channel} /(analysis|commentary) to=[\\w.-]+ ?/ ({constrain} /\\w+/)? {message} {_WORDS} {call}?",
            f"answer: {answer}",
        ]
    )


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Objects hold what their schema names and nothing else, unless it opens them: a model would make something up.

    The arguments as a whole are an object. An inner object of which nothing at all is said stays open.
    """
    schema = {"type": "object", **schema}
    if any(f'"{word}"' in json.dumps(schema) for word in _JOINED):
        return schema
    found: dict[str, Any] = _closed(schema)
    return found if _is_open(found) else found | {"additionalProperties": False}


def _closed(value: Any) -> Any:
    if isinstance(value, list):
        return [_closed(each) for each in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("properties"), dict) and any(word in value for word in ("anyOf", "oneOf")):
        return value  # what the alternatives name belongs to this object too
    found = {key: _closed_at(key, each) for key, each in value.items()}
    properties = value.get("properties")
    names_some = isinstance(properties, dict) and properties and value.get("type", "object") == "object"
    return found | {"additionalProperties": False} if names_some and not _is_open(value) else found


def _closed_at(keyword: str, value: Any) -> Any:
    if keyword in ("properties", "$defs", "definitions", "patternProperties") and isinstance(value, dict):
        return {name: _closed(each) for name, each in value.items()}
    return value if keyword in ("enum", "const", "default", "examples") else _closed(value)


def _is_open(schema: Mapping[str, Any]) -> bool:
    """Whether it opens an object, or demands what it does not describe."""
    required, properties = schema.get("required"), schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    unknown = isinstance(required, list) and any(name not in known for name in required if isinstance(name, str))
    return unknown or any(word in schema for word in _OPEN)


def _calls(form: ToolFormat, tools: Sequence[Tool], id_of: IdOf, apart: bool = False) -> tuple[str, list[str]]:
    """The expression of one call, and the rules that it needs. `apart`: in tokens of JSON, beside other JSON."""
    rules = []
    for number, tool in enumerate(tools):
        function = tool["function"]
        # Each schema is the root of its own: it may refer to its definitions from there.
        schema = json.dumps(
            closed(function["parameters"]) | (TIGHT if function.get("strict") else LOOSE), ensure_ascii=False
        )
        if form.body == "named":
            rules.append(
                f"call{number}: {json.dumps(function['name'])} {_mark(form, form.between, id_of)} %json {schema}"
            )
            continue
        head = f'{{"name":{json.dumps(function["name"])},"{form.arguments}":'
        before, after = ("[", "]") if form.body == "list" else ("", "")
        if apart:
            words = ("{", '"name"', ":", json.dumps(function["name"]), ",", json.dumps(form.arguments), ":")
            rules.append(f"call{number}: {' '.join(map(json.dumps, words))} %json {schema} {json.dumps('}')}")
            continue
        rules.append(f"call{number}: {json.dumps(before + head)} %json {schema} {json.dumps('}' + after)}")
    choice = "(" + " | ".join(f"call{number}" for number in range(len(tools))) + ")"
    mark, close = _mark(form, form.begin, id_of), _mark(form, form.end, id_of)
    begin = f'{mark} "\\n" ' if form is HERMES else f"{mark} " if form.begin else ""
    end = f' "\\n" {close}' if form is HERMES else f" {close}" if form.end else ""
    return f"{begin}{choice}{end}", rules


def _mark(form: ToolFormat, text: str, id_of: IdOf) -> str:
    number = id_of(text) if text in form.shown else None
    return json.dumps(text) if number is None else f"<[{number}]>"
