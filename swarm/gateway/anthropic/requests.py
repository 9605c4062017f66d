"""What may stand in a request for messages. Pure: JSON in, a `GenerationRequest` out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from swarm.gateway.anthropic.tools import Choice, Tool, choose, offers_of
from swarm.gateway.generation.foreign import last_asked, parts_text, text_of
from swarm.gateway.generation.request import GenerationRequest, Held
from swarm.gateway.http.errors import FieldFault
from swarm.gateway.http.fields import Limit, Whole
from swarm.gateway.openai.messages import Fields
from swarm.gateway.openai.requests import MAX_MESSAGES, SEED_BITS, Name, few_stops
from swarm.sampling import Sampling

BILLING = "x-anthropic-billing-header:"  # a line for its maker alone, another one in each request: no prefix would fit
THOUGHTS = ("thinking", "redacted_thinking")  # earlier ones; most templates drop them


class Block(Fields):
    """A piece of a message."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = Field(default_factory=dict)
    tool_use_id: str = ""
    content: Any = None
    is_error: bool = False


class Message(Fields):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Format(Fields):
    """What the answer's text has to be."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")

    def held(self, field: str) -> Held:
        return Held("json_schema", self.json_schema, field)


class OutputConfig(Fields):
    format: Format | None = None


class Thinking(Fields):
    type: Literal["enabled", "adaptive", "disabled"]


class CountRequest(Fields):
    """`POST /v1/messages/count_tokens`."""

    model: Name
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    system: str | list[Block] = ""
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    mcp_servers: list[Any] = Field(default_factory=list)

    def prompt(self, owner: str) -> GenerationRequest:
        """What is asked, without how it is to be answered. Raises UsageFault for what cannot be honoured."""
        if self.mcp_servers:
            raise FieldFault("mcp_servers: no tools are called here; call them where you are", "mcp_servers")
        messages: list[dict[str, Any]] = []
        said = []
        if system := _system(self.system):
            messages.append({"role": "system", "content": system})
            said.append("system")
        asked = last_asked([_role(message) for message in self.messages])
        for number, message in enumerate(self.messages):
            messages += _plain(message, f"messages[{number}]", asked=number == asked)
            said += [f"messages[{number}]"] * (len(messages) - len(said))
        choice, box = self.tool_choice, offers_of(self.tools)
        return GenerationRequest(
            model=self.model,
            messages=tuple(messages),
            said=tuple(said),
            **box.fields(),
            tool_choice=choose(choice, box),
            goes_on=len(messages) > 1 and messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1],
            # many templates know of it; where nothing was said they decide by themselves
            variables={} if self.thinking is None else {"enable_thinking": self.thinking.type != "disabled"},
            single_call=choice is not None and choice.disable_parallel_tool_use,
            owner=owner,
        )


class MessagesRequest(CountRequest):
    """`POST /v1/messages`."""

    max_tokens: Limit = Field(ge=1)
    stream: bool = False
    stop_sequences: Annotated[list[str], AfterValidator(few_stops)] = Field(default_factory=list)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: Whole = Field(0, ge=-1)
    output_config: OutputConfig = Field(default_factory=OutputConfig)
    output_format: Format | None = None  # what it was called at first

    def plain(self, owner: str) -> GenerationRequest:
        """Raises UsageFault for what cannot be honoured."""
        sampling = Sampling(self.temperature, max(self.top_k, 0), self.top_p, seed=secrets.randbits(SEED_BITS))
        form, field = self.output_config.format, "output_config.format"
        if form is None:
            form, field = self.output_format, "output_format"
        return replace(
            self.prompt(owner),
            sampling=sampling,
            max_tokens=self.max_tokens,
            stop=tuple(self.stop_sequences),
            held=None if form is None else form.held(field),
        )


def _system(content: str | list[Block]) -> str:
    """Of blocks that are text. Raises FieldFault for any other."""
    if isinstance(content, str):
        return content.partition("\n")[2].lstrip("\n") if content.startswith(BILLING) else content
    texts = [text_of(raw, f"system[{number}]", asked=True) for number, raw in enumerate(_raw(content))]
    return "\n".join(text for text in texts if not text.startswith(BILLING))


def _raw(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """As they were sent."""
    return [block.model_dump(exclude_unset=True) for block in blocks]


def _role(message: Message) -> str:
    """Whose words a message is: one that brings results of tools was put together by a program."""
    brings = isinstance(message.content, list) and any(block.type == "tool_result" for block in message.content)
    return "tool" if brings else message.role


def _plain(message: Message, place: str, *, asked: bool) -> list[dict[str, Any]]:
    """As OpenAI's API has it: results of tools are messages of their own, calls stand beside the text."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    results, texts, calls, thoughts = [], [], [], []
    for number, (block, raw) in enumerate(zip(message.content, _raw(message.content), strict=True)):
        field = f"{place}.content[{number}]"
        if block.type == "tool_result":
            words = parts_text(block.content, f"{field}.content")
            words = f"Error: {words}" if block.is_error else words  # there is no other way to tell the model
            results.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": words})
        elif block.type == "tool_use":
            function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
            calls.append({"id": block.id, "type": "function", "function": function})
        elif block.type in THOUGHTS:
            thoughts.append(block.thinking)
        else:
            texts.append(text_of(raw, field, asked=asked))
    plain: dict[str, Any] = {"role": message.role, "content": "\n".join(texts)}
    if calls:
        plain["tool_calls"] = calls
    if any(thoughts):
        plain["reasoning_content"] = "\n".join(thoughts)
    return [*results, plain] if texts or calls else results
