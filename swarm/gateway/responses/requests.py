"""What may stand in a request for a response. Pure: JSON in, a `GenerationRequest` out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from swarm.engine.sampler import Sampling
from swarm.gateway.generation.request import GenerationRequest, Held, ToolChoice
from swarm.gateway.generation.tools import SHELL_NAME, Toolbox, in_namespace, with_input
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
)
from swarm.gateway.responses.tools import Chosen, Tool, choose, offers_of

CALLS = ("function_call", "custom_tool_call", "local_shell_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")


class Item(Fields):
    """A piece of the conversation."""

    type: str = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[Part] = ""
    id: str = ""
    call_id: str = ""
    name: str = ""
    namespace: str | None = None
    arguments: str = "{}"
    input: str = ""  # of a custom tool
    action: dict[str, Any] = Field(default_factory=dict)  # of a shell
    output: str | list[Part] = ""

    @model_validator(mode="before")
    @classmethod
    def _foreign(cls, value: Any) -> Any:
        """Of items that only other servers make, nothing is looked at."""
        kind = value.get("type") if isinstance(value, dict) else None
        known = kind is None or kind in ("message", *CALLS, *OUTPUTS)
        return value if known else {"type": kind}


class Format(Fields):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    json_schema: dict[str, Any] = Field(default_factory=dict, alias="schema")


class TextOptions(Fields):
    format: Format = Field(default_factory=Format)


class Reasoning(Fields):
    effort: str | None = None


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
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: Literal["auto", "none", "required"] | Chosen = "auto"
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
        box, choice = self.offers()
        variables = {} if self.reasoning.effort is None else {"reasoning_effort": self.reasoning.effort}
        return GenerationRequest(
            model=self.model,
            messages=(*system, *messages),
            **box.fields(),
            tool_choice=choice,
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

    def offers(self) -> tuple[Toolbox, ToolChoice]:
        """The tools that may be called, and whether one must be. Raises FieldFault."""
        return choose(offers_of(self.tools), self.tool_choice)


def _plain(item: Item, place: str) -> list[Mapping[str, Any]]:
    """As chat completions have it."""
    if item.type == "message":
        if item.role is None:
            raise FieldFault(f"{place}.role is missing", f"{place}.role")
        return [Message(role=item.role, content=item.content).plain(place)]
    if item.type in CALLS:
        function = {"name": _name(item), "arguments": _arguments(item)}
        call = {"id": item.call_id or item.id, "type": "function", "function": function}
        return [{"role": "assistant", "content": "", "tool_calls": [call]}]
    if item.type in OUTPUTS:
        output = Message(role="tool", content=item.output, tool_call_id=item.call_id or item.id)
        return [output.plain(place)]
    return []  # what the model thought before, and what only other servers know, is not shown to it


def _name(item: Item) -> str:
    if item.type == "local_shell_call":
        return SHELL_NAME
    return item.name if item.namespace is None else in_namespace(item.namespace, item.name)


def _arguments(item: Item) -> str:
    if item.type == "custom_tool_call":
        return with_input(item.input)
    if item.type == "local_shell_call":
        told = ("command", "working_directory", "timeout_ms")
        return json.dumps({name: item.action[name] for name in told if item.action.get(name)}, ensure_ascii=False)
    return item.arguments
