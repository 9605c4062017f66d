"""The items of a conversation, as the Responses API has them, to messages. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from swarm.gateway.generation.foreign import foreign_call, last_asked, mark, parts_text, shown
from swarm.gateway.generation.tools import SHELL_NAME, in_namespace, with_input
from swarm.gateway.http.errors import FieldFault
from swarm.gateway.openai.messages import Fields, Message, Part, arguments_text

# What the model thought before is not shown to it again; the others hold nothing that it could read.
IGNORED_ITEMS = ("reasoning", "compaction", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response")
OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")
OWN_ITEMS = ("message", "function_call", "custom_tool_call", "local_shell_call", *OUTPUTS)
SHELL_ARGUMENTS = ("command", "working_directory", "timeout_ms")
# Calls that a program answers: what they ask for stands in one of these fields.
_ASKED_IN = {
    "shell_call": "action",
    "apply_patch_call": "operation",
    "computer_call": "action",
}


class Item(Fields):
    """A piece of the conversation."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: str = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[Part] = ""
    id: str = ""
    call_id: str = ""
    name: str = ""
    namespace: str | None = None
    arguments: str | dict[str, Any] = "{}"
    input: str = ""  # of a custom tool
    action: dict[str, Any] = Field(default_factory=dict)  # of a shell
    output: Any = ""
    foreign: dict[str, Any] = Field(default_factory=dict)  # an item of another kind, as it was sent

    @model_validator(mode="before")
    @classmethod
    def _keep_foreign(cls, value: Any) -> Any:
        """Nothing is known of what other items hold."""
        if isinstance(value, dict) and isinstance(kind := value.get("type"), str) and kind not in OWN_ITEMS:
            return {"type": kind, "foreign": value}
        return value

    def found(self, kept: Callable[[str], Mapping[str, Any] | None]) -> Item:
        """What it refers to, if that is still there."""
        if self.type != "item_reference":
            return self
        item = kept(str(self.foreign.get("id")))
        return self if item is None else Item.model_validate(dict(item))

    def shown(self) -> dict[str, Any]:
        """As it was sent."""
        return dict(self.foreign) or self.model_dump(exclude_unset=True)


def conversation(before: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> tuple[Mapping[str, Any], ...]:
    """The messages so far. Raises FieldFault for what was just asked and cannot be shown to a model."""
    return tuple(message for message, _ in _placed(before, items))


def places(items: Sequence[Item], count: int) -> tuple[str, ...]:
    """The fields that the last `count` messages came from: items, or an earlier response."""
    own = [place for _, place in _placed((), items)][-count:]
    return ("previous_response_id",) * (count - len(own)) + tuple(own)


def _placed(before: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> list[tuple[Mapping[str, Any], str]]:
    found = [(message, "previous_response_id") for message in before]
    asked = last_asked([*(message["role"] for message in before), *map(_role, items)])
    for number, item in enumerate(items, len(before)):
        place = f"input[{number - len(before)}]"
        for message in _plain(item, place, asked=number == asked):
            words, calls = message["content"], message.get("tool_calls", ())
            last = found[-1][0] if found else {"role": ""}
            if message["role"] == last["role"] == "assistant" and (calls or not item.role):
                said = "\n".join(filter(None, (last["content"], words)))  # its words and calls are one message
                calls = [*last.get("tool_calls", ()), *calls]
                found[-1] = ({**last, "content": said, **({"tool_calls": calls} if calls else {})}, found[-1][1])
            else:
                found.append((message, place))
    return found


def _role(item: Item) -> str:
    if item.type == "message":
        return item.role or "user"
    if item.type.endswith("_output"):
        return "tool"
    return "assistant" if item.type in OWN_ITEMS or _is_known(item.type) else "user"


def _is_known(kind: str) -> bool:
    """Whether an item may well stand in a history: whatever is named a call, and what refers to something earlier."""
    return kind in IGNORED_ITEMS or kind == "item_reference" or kind.endswith(("_call", "_output"))


def _plain(item: Item, place: str, *, asked: bool) -> list[Mapping[str, Any]]:
    """As chat completions have it."""
    if item.type == "message":
        if item.role is None:
            raise FieldFault(f"{place}.role is missing", f"{place}.role")
        return [Message(role=item.role, content=item.content).plain(place, asked=asked)]
    call_id = item.call_id or item.id
    if item.type == "function_call":
        return [_call(call_id, _name(item), arguments_text(item.arguments))]
    if item.type == "custom_tool_call":
        return [_call(call_id, _name(item), with_input(item.input))]
    if item.type == "local_shell_call":
        told = {name: item.action[name] for name in SHELL_ARGUMENTS if item.action.get(name)}
        return [_call(call_id, SHELL_NAME, arguments_text(told))]
    if item.type in OUTPUTS:
        words = parts_text(item.output, f"{place}.output")
        return [{"role": "tool", "tool_call_id": call_id, "content": words}]
    return _foreign(item, place, asked=asked)


def _foreign(item: Item, place: str, *, asked: bool) -> list[Mapping[str, Any]]:
    kind, sent = item.type, item.foreign
    call = sent.get("call_id") or sent.get("id")
    if kind in IGNORED_ITEMS:
        return []
    if kind == "item_reference":
        return [{"role": "assistant", "content": "[an earlier item left out: it is not kept here]"}]
    if kind in _ASKED_IN and isinstance(call, str):
        return [_call(call, kind.removesuffix("_call"), arguments_text(_object(sent.get(_ASKED_IN[kind]))))]
    if kind.endswith("_output") and isinstance(call, str):
        return [{"role": "tool", "tool_call_id": call, "content": _output(sent.get("output"))}]
    if asked and not _is_known(kind):
        raise FieldFault(f"{place} is {kind!r}, which is not known here; leave it out", place)
    return [{"role": "assistant", "content": foreign_call(sent)}]


def _name(item: Item) -> str:
    return item.name if item.namespace is None else in_namespace(item.namespace, item.name)


def _call(call_id: str, name: str, arguments: str) -> Mapping[str, Any]:
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"action": value}


def _output(value: Any) -> str:
    """Of a call that is no function's: text, or what a screen showed, or figures."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and str(value.get("type", "")).endswith(("image", "screenshot")):
        return mark(value)
    return shown(value)
