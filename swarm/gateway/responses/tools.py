"""Tools in a request for a response, the choice among them, and the items that calls of them are. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field

from swarm.gateway.generation.request import ToolChoice
from swarm.gateway.generation.tools import (
    SHELL_NAME,
    Offered,
    Toolbox,
    custom,
    in_namespace,
    input_of,
    local_shell,
    object_of,
    toolbox,
)
from swarm.gateway.http.errors import FieldFault
from swarm.gateway.http.fields import read_fields
from swarm.gateway.openai.messages import Fields


class Tool(Fields):
    """A tool of any type; what it holds beyond the fields here is its own business."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: str
    name: str = ""
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool = False
    tools: list[Any] = Field(default_factory=list)  # of a namespace
    format: Any = None  # of a custom tool

    def told(self) -> dict[str, Any]:
        """As a response repeats it."""
        if self.type == "function":
            return self.model_dump(include={"type", "name", "description", "parameters", "strict"})
        return self.model_dump(exclude_unset=True)


class Chosen(Fields):
    """A tool, or some of them."""

    type: str
    name: str = ""
    namespace: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[dict[str, Any]] = Field(default_factory=list)


def offers_of(tools: Sequence[Tool]) -> Toolbox:
    """All that can be called here. Raises FieldFault."""
    offered: list[Offered] = []
    left_out: list[str] = []
    for number, tool in enumerate(tools):
        _offer(tool, f"tools[{number}]", None, offered, left_out)
    return toolbox(offered, left_out)


def _offer(tool: Tool, place: str, namespace: str | None, offered: list[Offered], left_out: list[str]) -> None:
    if tool.type in ("function", "custom", "namespace") and not tool.name:
        raise FieldFault(f"{place}.name is missing", f"{place}.name")
    name = tool.name if namespace is None else in_namespace(namespace, tool.name)
    match tool.type:
        case "function":
            function = {"name": name, "description": tool.description, "parameters": tool.parameters}
            strict = {"strict": tool.strict}
            offered.append(Offered(function | strict, place, namespace=namespace, own_name=tool.name))
        case "custom":
            made = custom(name, tool.description, tool.format, place)
            offered.append(Offered(made.function, place, "custom", namespace, tool.name))
        case "local_shell":
            offered.append(local_shell(place))
        case "namespace" if namespace is None:
            for number, inner in enumerate(tool.tools):
                where = f"{place}.tools[{number}]"
                _offer(read_fields(Tool, inner, where), where, tool.name, offered, left_out)
        case _:
            left_out.append(tool.type)


def choose(box: Toolbox, choice: str | Chosen) -> tuple[Toolbox, ToolChoice]:
    """The tools that may be called, and whether one must be. Raises FieldFault for a demand that cannot be met."""
    if choice == "required":
        return box, box.demanded()
    if not isinstance(choice, Chosen):
        return box, "none" if choice == "none" else "auto"
    if choice.type == "allowed_tools":
        several = (
            read_fields(Chosen, each, f"tool_choice.tools[{number}]") for number, each in enumerate(choice.tools)
        )
        found = (box.named(_name(each), each.namespace) for each in several)
        return box.allowed([each.name for each in found if each], choice.mode)
    return box, box.demanded([box.sure(_name(choice), choice.type, choice.namespace)])


def _name(chosen: Chosen) -> str:
    return SHELL_NAME if chosen.type == "local_shell" else chosen.name


def call_item(offered: Offered | None, name: str, call_id: str) -> dict[str, Any]:
    """The item of a call that begins; `offered` is None for a name that the model has made up."""
    if offered is None or offered.kind == "function":
        item = {"type": "function_call", "id": f"fc_{secrets.token_hex(12)}", "call_id": call_id, "arguments": ""}
        item["name"] = offered.own_name if offered else name
        namespace = offered.namespace if offered else None
    elif offered.kind == "custom":
        item = {"type": "custom_tool_call", "id": f"ctc_{secrets.token_hex(12)}", "call_id": call_id, "input": ""}
        item["name"], namespace = offered.own_name, offered.namespace
    else:
        item = {"type": "local_shell_call", "id": f"lsh_{secrets.token_hex(12)}", "call_id": call_id}
        return item | {"action": shell_action(""), "status": "in_progress"}
    return item | ({} if namespace is None else {"namespace": namespace}) | {"status": "in_progress"}


def filled(item: dict[str, Any], arguments: str) -> dict[str, Any]:
    """What a call's item holds besides, now that its arguments are whole."""
    match item["type"]:
        case "function_call":
            return {"arguments": arguments}
        case "custom_tool_call":
            return {"input": input_of(arguments)}
    return {"action": shell_action(arguments)}


def shell_action(arguments: str) -> dict[str, Any]:
    """A call of the shell in the API's words; without a command if the model has not written any."""
    given = object_of(arguments)
    command = given.get("command")
    words = [command] if isinstance(command, str) else command if isinstance(command, list) else []
    action: dict[str, Any] = {"type": "exec", "command": [str(word) for word in words], "env": {}}
    timeout, place = given.get("timeout_ms"), given.get("working_directory")
    action["timeout_ms"] = timeout if isinstance(timeout, int) else None
    action["working_directory"] = place if isinstance(place, str) else None
    return action
