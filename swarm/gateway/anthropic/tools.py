"""Tools in a request for messages, and the choice among them. Some have no schema of their own: they are as Anthropic's reference
describes them, and run by whoever asks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from swarm.gateway.generation.request import ToolChoice
from swarm.gateway.generation.tools import Offered, Toolbox, toolbox
from swarm.gateway.http.errors import FieldFault
from swarm.gateway.openai.messages import Fields

_TEXT, _LINE = {"type": "string"}, {"type": "integer"}
_EDITS = {
    "path": _TEXT,
    "view_range": {"type": "array", "items": _LINE, "description": "First and last line; -1 is the end"},
    "file_text": _TEXT,
    "old_str": _TEXT,
    "new_str": _TEXT,
    "insert_line": {**_LINE, "description": "The line after which text is inserted"},
    "insert_text": _TEXT,
}
_EDIT_COMMANDS = ("view", "create", "str_replace", "insert")


def _commands(names: Sequence[str], required: Sequence[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"command": {"enum": list(names)}, **properties},
        "required": ["command", *required],
    }


# What their types begin with, which end in a date; what they do, and their arguments.
KNOWN: Mapping[str, tuple[str, dict[str, Any]]] = {
    "bash_": (
        "Runs a command in a shell that stays open; restart opens it anew",
        {"type": "object", "properties": {"command": _TEXT, "restart": {"type": "boolean"}}},
    ),
    "text_editor_": ("Shows, makes and changes files", _commands(_EDIT_COMMANDS, ["path"], **_EDITS)),
    "memory_": (
        "Keeps notes in files under /memories",
        _commands([*_EDIT_COMMANDS, "delete", "rename"], [], **_EDITS, old_path=_TEXT, new_path=_TEXT),
    ),
}


class Tool(Fields):
    name: str = Field("", max_length=512)
    type: str = "custom"
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    strict: bool = False


class Choice(Fields):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool = False


def offers_of(tools: Sequence[Tool]) -> Toolbox:
    """All that can be called here. Raises FieldFault."""
    offered, left_out = [], []
    for number, tool in enumerate(tools):
        place = f"tools[{number}]"
        known = next((each for start, each in KNOWN.items() if tool.type.startswith(start)), None)
        description, parameters = known or (tool.description, tool.input_schema)
        if tool.type != "custom" and known is None:
            left_out.append(tool.type)
        elif not tool.name:
            raise FieldFault(f"{place}.name is missing", f"{place}.name")
        else:
            function = {"name": tool.name, "description": description, "parameters": parameters}
            offered.append(Offered(function | ({"strict": True} if tool.strict else {}), place))
    return toolbox(offered, left_out)


def choose(choice: Choice | None, box: Toolbox) -> ToolChoice:
    """Whether one must be called. Raises FieldFault for a demand that cannot be met."""
    if choice is None or choice.type == "auto":
        return "auto"
    if choice.type == "none":
        return "none"
    return box.demanded(None if choice.type == "any" else [box.sure(choice.name, "function")])
