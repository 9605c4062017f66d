"""How a family of models is shown tools and writes calls of them: each format is a row of data.

Which one a model follows shows in its chat template. Models whose template knows no tools are told in the system's words to
write calls as Hermes models do. Knows nothing of HTTP; the calls are read out of a running answer in `tool_calls`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from swarm.errors import UsageFault

MAX_TOOLS = 1024  # programs with several MCP servers offer hundreds
MAX_TOOL_BYTES = 1 << 20  # of all definitions together

Tool = Mapping[str, Any]  # as in OpenAI's API: {"type": "function", "function": {"name", "description", "parameters"}}
Body = Literal["object", "list", "named", "functions", "keys", "harmony", "fenced"]


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How calls stand in an answer."""

    name: str
    body: Body  # what stands between the marks, see `tool_calls`
    begin: str  # a mark in the text; empty: the whole answer is a call if it begins with an opening brace
    end: str = ""  # empty: the body says by itself where it ends
    arguments: str = "arguments"  # what a call's arguments are called
    around: tuple[str, ...] = ()  # marks before and after all calls, which say nothing more
    between: str = ""  # a mark between name and arguments
    signs: tuple[str, ...] = ()  # all of which a chat template of such a model holds
    shown: tuple[str, ...] = ()  # special tokens that are part of the format: they have to stay in the text


_HERMES = ("<tool_call>", "</tool_call>")
HERMES = ToolFormat("hermes", "object", *_HERMES, signs=_HERMES[:1], shown=_HERMES)
_DEEPSEEK = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
)
_HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>")
_MISTRAL = ("[TOOL_CALLS]", "[ARGS]")
_GRANITE = ("<|tool_call|>", "<|/tool_call|>")

# The first whose signs the template holds: those that share a mark stand before the simpler one.
FORMATS = (
    ToolFormat("harmony", "harmony", "<|channel|>", signs=("<|channel|>", "<|message|>"), shown=_HARMONY),
    ToolFormat(
        "deepseek",
        "fenced",
        *_DEEPSEEK[1::2],
        around=_DEEPSEEK[::4],
        between=_DEEPSEEK[2],
        signs=_DEEPSEEK[1:2],
        shown=_DEEPSEEK,
    ),
    ToolFormat("functions", "functions", _HERMES[0], _HERMES[1], signs=("<function=",), shown=_HERMES),
    ToolFormat("keys", "keys", _HERMES[0], _HERMES[1], signs=("<arg_key>",), shown=_HERMES),
    HERMES,
    ToolFormat("mistral", "named", _MISTRAL[0], between=_MISTRAL[1], signs=_MISTRAL, shown=_MISTRAL),
    ToolFormat("mistral list", "list", _MISTRAL[0], signs=_MISTRAL[:1], shown=_MISTRAL[:1]),
    ToolFormat("granite", "list", *_GRANITE, signs=_GRANITE[:1], shown=_GRANITE),
    ToolFormat(
        "llama",
        "object",
        "",
        arguments="parameters",
        signs=("<|start_header_id|>", "parameters"),
        shown=("<|python_tag|>",),
    ),
)

INSTRUCTIONS = """\
You may call functions. They are described here, each by a JSON schema of its arguments:
<tools>
{tools}
</tools>
To call one, write its name and arguments as a JSON object between tags, and nothing after it:
<tool_call>
{{"name": "the function's name", "arguments": {{"its": "arguments"}}}}
</tool_call>"""


def format_of(template: str) -> ToolFormat:
    """The format that a chat template's source speaks of; Hermes' if it speaks of none."""
    return next((each for each in FORMATS if all(sign in template for sign in each.signs)), HERMES)


def check_tools(tools: Sequence[Any], places: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Well-formed definitions of functions. `places`: where each stands in the request. Raises UsageFault naming what is not."""
    if len(tools) > MAX_TOOLS:
        raise UsageFault(f"{len(tools)} tools: at most {MAX_TOOLS} are taken")
    checked = []
    for number, tool in enumerate(tools):
        place = places[number] if places else f"tools[{number}]"
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type", "function") != "function":
            raise UsageFault(f"{place} is no function: only tools of type function are known")
        name, parameters = function.get("name"), function.get("parameters") or {"type": "object", "properties": {}}
        if not isinstance(name, str) or not name or not isinstance(parameters, Mapping):
            raise UsageFault(f"{place}.function needs a name, and parameters that are a JSON schema")
        checked.append({"type": "function", "function": {**function, "parameters": dict(parameters)}})
    if len(json.dumps(checked)) > MAX_TOOL_BYTES:
        raise UsageFault(f"the tools' definitions have more than {MAX_TOOL_BYTES} bytes")
    return checked


def told(messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The messages with the tools in the system's words, for templates that know none; calls and results as text."""
    words = INSTRUCTIONS.format(tools="\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools))
    plain = as_text(messages)
    if plain and plain[0]["role"] in ("system", "developer"):
        return [{**plain[0], "content": f"{plain[0]['content']}\n\n{words}"}, *plain[1:]]
    return [{"role": "system", "content": words}, *plain]


def as_text(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages with calls and results as text."""
    return [_plain(each) if each["role"] == "tool" or each.get("tool_calls") else dict(each) for each in messages]


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message.get('content') or ''}\n</tool_response>"}
    words = message.get("content") or ""
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = function["arguments"]
        arguments = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        words += f'\n<tool_call>\n{{"name": {json.dumps(function["name"])}, "arguments": {arguments}}}\n</tool_call>'
    return {"role": message["role"], "content": words.strip("\n") if message.get("tool_calls") else words}
