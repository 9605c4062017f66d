"""Tools as programs offer them. A model is shown functions only; what each was is kept, so that its calls are told as such.

A custom tool is a function of one text, a namespace's function has the namespace's name before its own, and what only a server
could run is left out. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from swarm.errors import UsageFault
from swarm.gateway.generation.request import ToolChoice
from swarm.gateway.http.errors import FieldFault
from swarm.text.answers.tool_formats import check_tools

Kind = Literal["function", "custom", "local_shell"]
INPUT = "input"  # what a custom tool's text is called
BETWEEN = "__"  # a namespace and a name
MAX_DEFINITION = 1 << 16  # characters of a custom tool's grammar that the model is told
SHELL_NAME = "local_shell"
_SHELL = {
    "name": SHELL_NAME,
    "description": "Runs a command on the user's machine",
    "parameters": {
        "type": "object",
        "properties": {
            "command": {"type": "array", "items": {"type": "string"}, "description": "The program and its arguments"},
            "working_directory": {"type": "string"},
            "timeout_ms": {"type": "integer"},
        },
        "required": ["command"],
    },
}


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool that the model can call."""

    function: Mapping[str, Any]  # as the model is shown it: name, description, parameters, strict
    place: str  # in the request, such as tools[1]
    kind: Kind = "function"
    namespace: str | None = None
    own_name: str = ""  # without its namespace

    @property
    def name(self) -> str:
        """As the model is shown it."""
        return str(self.function.get("name", ""))


@dataclass(frozen=True, slots=True)
class Toolbox:
    """All tools of a request."""

    offered: tuple[Offered, ...] = ()
    left_out: tuple[str, ...] = ()  # types of tools that a server would run

    @property
    def functions(self) -> tuple[Mapping[str, Any], ...]:
        """As OpenAI's chat API has them."""
        return tuple({"type": "function", "function": each.function} for each in self.offered)

    def fields(self) -> dict[str, Any]:
        """What a `GenerationRequest` holds of them."""
        return {
            "tools": self.functions,
            "places": tuple(each.place for each in self.offered),
            "left_out": self.left_out,
            "told_whole": frozenset(each.name for each in self.offered if each.kind != "function"),
        }

    def find(self, name: str) -> Offered | None:
        """By the name that the model is shown."""
        return next((each for each in self.offered if each.name == name), None)

    def named(self, name: str, namespace: str | None = None) -> Offered | None:
        """By the name that programs use; a namespace need not be told where the name says enough."""
        fits = [each for each in self.offered if each.own_name == name and namespace in (None, each.namespace)]
        return fits[0] if fits else self.find(name)

    def demanded(self, names: Sequence[str] | None = None) -> ToolChoice:
        """The choice that demands a call, of any tool or of one of these. Raises FieldFault where none can be called."""
        if names is None and self.offered:
            return "required"
        if names:
            return tuple(names)
        kinds = (
            f" that can be called here, only {', '.join(self.left_out)}, which a server runs" if self.left_out else ""
        )
        raise FieldFault(f"tool_choice demands a call, but there are no tools{kinds}", "tool_choice")

    def allowed(self, names: Sequence[str], mode: str) -> tuple[Toolbox, ToolChoice]:
        """Of those that are offered only these may be called, or under `required` one must be. Raises FieldFault."""
        here = [name for name in names if self.find(name)]
        if mode == "required":
            return self, self.demanded(here)  # all are shown, so that the prompt's beginning stays
        if not here:
            return self, "none"
        return replace(self, offered=tuple(each for each in self.offered if each.name in here)), "auto"

    def sure(self, name: str, kind: str, namespace: str | None = None) -> str:
        """The name that the model is shown of a tool that has to be called. Raises FieldFault where there is no such."""
        found = self.named(name, namespace)
        if found is not None:
            return found.name
        if kind not in ("function", "custom"):
            raise FieldFault(f"tool_choice demands {kind!r}, which cannot be run here", "tool_choice")
        if not self.offered:
            self.demanded()
        raise FieldFault(f"tool_choice names {name!r}, which is none of the tools", "tool_choice")


def toolbox(offered: Sequence[Offered], left_out: Iterable[str] = ()) -> Toolbox:
    """With definitions as they should be. Raises FieldFault naming the tool that is not."""
    shown = [{"type": "function", "function": each.function} for each in offered]
    try:
        checked = check_tools(shown, [each.place for each in offered])
    except UsageFault as error:
        raise FieldFault(str(error), "tools") from error
    tools = (
        replace(each, function=tool["function"], own_name=each.own_name or tool["function"]["name"])
        for each, tool in zip(offered, checked, strict=True)
    )
    return Toolbox(tuple(tools), tuple(dict.fromkeys(left_out)))


def custom(name: str, description: str, form: Any, place: str) -> Offered:
    """A tool that takes a text; `form` says what grammar that has, if any."""
    definition = form.get("definition") if isinstance(form, Mapping) else None
    if isinstance(definition, str) and definition:
        syntax = form.get("syntax", "")
        description = (
            f"{description}\n\nIts {INPUT} follows this {syntax} grammar:\n{definition[:MAX_DEFINITION]}".strip()
        )
    parameters = {"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT]}
    function = {"name": name, "description": description, "parameters": parameters}
    return Offered(function, place, "custom")


def local_shell(place: str) -> Offered:
    """The shell of whoever asks."""
    return Offered(_SHELL, place, "local_shell")


def in_namespace(namespace: str, name: str) -> str:
    """The name that the model is shown."""
    return f"{namespace}{'' if namespace.endswith(BETWEEN) else BETWEEN}{name}"


def input_of(arguments: str) -> str:
    """The text that a custom tool is called with; arguments of another shape are shown as they are."""
    value = object_of(arguments)
    given = value.get(INPUT) if INPUT in value else next(iter(value.values()), None) if len(value) == 1 else None
    return given if isinstance(given, str) else arguments


def with_input(text: str) -> str:
    """A custom tool's text as arguments."""
    return json.dumps({INPUT: text}, ensure_ascii=False)


def object_of(arguments: str) -> dict[str, Any]:
    """Arguments as an object; an empty one if they are none."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
