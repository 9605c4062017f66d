"""What may stand in a conversation, and what is made of it. Null means absent, unknown fields are ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from swarm.gateway.generation.foreign import last_asked, parts_text
from swarm.gateway.generation.tools import with_input
from swarm.gateway.http.errors import FieldFault

MAX_MESSAGES = 4096
MAX_LOGPROBS = 20  # of chat; completions know 5
SEED_BITS = 31  # of a seed drawn for want of one
DEFAULT_TEMPERATURE = 1.0  # OpenAI's

Name = Annotated[str, Field(min_length=1, max_length=512)]


class Fields(BaseModel):
    """A request's body, or a part of it."""

    model_config = ConfigDict(extra="ignore", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        return {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value


class Part(Fields):
    """A piece of a message."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: str
    text: str | None = None
    refusal: str | None = None


class CalledFunction(Fields):
    name: Name
    arguments: str | dict[str, Any] = "{}"  # text, as at OpenAI, or the object itself, as Ollama's clients send it


class CalledCustom(Fields):
    name: Name
    input: str = ""


class CalledTool(Fields):
    id: str = ""
    type: Literal["function", "custom"] = "function"
    function: CalledFunction | None = None
    custom: CalledCustom | None = None

    def plain(self, place: str) -> dict[str, Any]:
        """As a call of a function. Raises FieldFault."""
        if self.custom is not None:
            function = CalledFunction(name=self.custom.name, arguments=with_input(self.custom.input))
        elif self.function is not None:
            function = CalledFunction(name=self.function.name, arguments=arguments_text(self.function.arguments))
        else:
            raise FieldFault(f"{place}.function is missing", f"{place}.function")
        return {"id": self.id, "type": "function", "function": function.model_dump()}


class Message(Fields):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] = ""
    name: str | None = None
    tool_calls: list[CalledTool] = Field(default_factory=list)
    tool_call_id: str | None = None
    reasoning_content: str | None = None

    def plain(self, place: str, *, asked: bool = False) -> dict[str, Any]:
        """As templates take it: contents as text. `asked`: by somebody who can leave out what is none. Raises FieldFault."""
        role = {"developer": "system", "function": "tool"}.get(self.role, self.role)
        found: dict[str, Any] = {"role": role, "content": self._text(f"{place}.content", asked)}
        if self.tool_calls:
            found["tool_calls"] = [
                call.plain(f"{place}.tool_calls[{number}]") for number, call in enumerate(self.tool_calls)
            ]
        for field in ("name", "tool_call_id", "reasoning_content"):
            if (value := getattr(self, field)) is not None:
                found[field] = value
        return found

    def _text(self, field: str, asked: bool) -> str:
        parts = self.content if isinstance(self.content, str) else [part.model_dump() for part in self.content]
        return parts_text(parts, field, asked=asked)


def arguments_text(arguments: str | Mapping[str, Any]) -> str:
    """A call's arguments as OpenAI's API writes them."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def plain_messages(messages: Sequence[Message]) -> tuple[dict[str, Any], ...]:
    """As templates take them. Raises FieldFault for what was just asked and is no text."""
    asked = last_asked([message.role for message in messages])
    return tuple(message.plain(f"messages[{number}]", asked=number == asked) for number, message in enumerate(messages))
