"""What may stand in a request for a response. Pure: JSON in, a `GenerationRequest` out."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from swarm.engine.sampler import Sampling
from swarm.gateway.generation.request import GenerationRequest, Held, ToolChoice
from swarm.gateway.http.errors import FieldFault
from swarm.gateway.openai.requests import (
    DEFAULT_TEMPERATURE,
    MAX_LOGPROBS,
    MAX_MESSAGES,
    SEED_BITS,
    Fields,
    Message,
    Name,
    Part,
    tools_of,
)

IGNORED_ITEMS = ("reasoning",)  # what the model thought before is not shown to it again


class Item(Fields):
    """A piece of the conversation."""

    type: str = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[Part] = ""
    call_id: str = ""
    name: str = ""
    arguments: str = "{}"
    output: str | list[Part] = ""


class Format(Fields):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    json_schema: dict[str, Any] = Field(default_factory=dict, alias="schema")


class TextOptions(Fields):
    format: Format = Field(default_factory=Format)


class Reasoning(Fields):
    effort: str | None = None


class Function(Fields):
    type: str
    name: str = ""
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool = False


class NamedFunction(Fields):
    type: Literal["function"]
    name: Name


class ResponseRequest(Fields):
    """`POST /v1/responses`."""

    model: Name
    input: str | list[Item] = ""
    instructions: str = ""
    max_output_tokens: int | None = Field(None, ge=1)
    stream: bool = False
    temperature: float = Field(DEFAULT_TEMPERATURE, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    tools: list[Function] = Field(default_factory=list)
    tool_choice: Literal["auto", "none", "required"] | NamedFunction = "auto"
    parallel_tool_calls: bool = True
    text: TextOptions = Field(default_factory=TextOptions)
    reasoning: Reasoning = Field(default_factory=Reasoning)
    store: bool = True
    previous_response_id: str | None = None
    background: bool = False
    truncation: Literal["disabled", "auto"] = "disabled"
    metadata: dict[str, str] = Field(default_factory=dict, max_length=16)
    user: str | None = None

    def items(self) -> list[Item]:
        """The input as items. Raises FieldFault."""
        if isinstance(self.input, str):
            return [Item(role="user", content=self.input)]
        if not 1 <= len(self.input) <= MAX_MESSAGES:
            raise FieldFault(f"input: 1 to {MAX_MESSAGES} items are taken", "input")
        return self.input

    def messages(self, before: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
        """The conversation so far, without instructions, which hold for one response only. Raises FieldFault."""
        found = [*before]
        for number, item in enumerate(self.items()):
            for message in _plain(item, f"input[{number}]"):
                calls = message.get("tool_calls")
                if calls and found and found[-1]["role"] == "assistant":  # its words and calls are one message
                    found[-1] = {**found[-1], "tool_calls": [*found[-1].get("tool_calls", ()), *calls]}
                else:
                    found.append(message)
        return tuple(found)

    def plain(self, messages: tuple[Mapping[str, Any], ...], owner: str) -> GenerationRequest:
        """Raises UsageFault for what cannot be honoured."""
        if self.background:
            raise FieldFault("background: responses are not computed behind the scenes here", "background")
        system = ({"role": "system", "content": self.instructions},) if self.instructions else ()
        variables = {} if self.reasoning.effort is None else {"reasoning_effort": self.reasoning.effort}
        return GenerationRequest(
            model=self.model,
            messages=(*system, *messages),
            tools=tools_of([_tool(tool, f"tools[{number}]") for number, tool in enumerate(self.tools)]),
            tool_choice=self._tool_choice(),
            held=self._held(),
            sampling=Sampling(self.temperature, top_p=self.top_p, seed=secrets.randbits(SEED_BITS)),
            max_tokens=self.max_output_tokens,
            top_logprobs=self.top_logprobs,
            variables=variables,
            owner=owner,
            single_call=not self.parallel_tool_calls,
        )

    def _held(self) -> Held | None:
        form = self.text.format
        if form.type == "text":
            return None
        return Held("json_object") if form.type == "json_object" else Held("json_schema", form.json_schema)

    def _tool_choice(self) -> ToolChoice:
        choice = self.tool_choice
        if choice not in ("auto", "none") and not self.tools:
            raise FieldFault("tool_choice demands a call, but there are no tools", "tool_choice")
        return (choice.name,) if isinstance(choice, NamedFunction) else choice


def _tool(tool: Function, place: str) -> dict[str, Any]:
    if tool.type != "function":
        raise FieldFault(f"{place} is {tool.type!r}: only functions are known here", place)
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return {"type": "function", "function": function}


def _plain(item: Item, place: str) -> list[Mapping[str, Any]]:
    """As chat completions have it."""
    if item.type == "message":
        if item.role is None:
            raise FieldFault(f"{place}.role is missing", f"{place}.role")
        return [Message(role=item.role, content=item.content).plain(place)]
    if item.type == "function_call":
        call = {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
        return [{"role": "assistant", "content": "", "tool_calls": [call]}]
    if item.type == "function_call_output":
        output = Message(role="tool", content=item.output, tool_call_id=item.call_id)
        return [output.plain(place)]
    if item.type in IGNORED_ITEMS:
        return []
    raise FieldFault(f"{place} is {item.type!r}, which is not known here", place)
