"""What may stand in a request for a response. Pure: JSON in, a `GenerationRequest` out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from swarm.gateway.generation.request import GenerationRequest, Held, ToolChoice
from swarm.gateway.generation.tools import Toolbox
from swarm.gateway.http.errors import FieldFault
from swarm.gateway.http.fields import Limit, Whole
from swarm.gateway.openai.messages import Fields
from swarm.gateway.openai.requests import DEFAULT_TEMPERATURE, MAX_LOGPROBS, MAX_MESSAGES, SEED_BITS, Name
from swarm.gateway.responses.items import Item, conversation, places
from swarm.gateway.responses.tools import Chosen, Tool, choose, offers_of
from swarm.sampling import Sampling


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
    max_output_tokens: Limit = Field(None, ge=1)
    stream: bool = False
    temperature: float = Field(DEFAULT_TEMPERATURE, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_logprobs: Whole | None = Field(None, ge=0, le=MAX_LOGPROBS)
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

    def messages(
        self, before: Sequence[Mapping[str, Any]], kept: Callable[[str], Mapping[str, Any] | None] = lambda _: None
    ) -> tuple[Mapping[str, Any], ...]:
        """The conversation so far, without instructions, which hold for one response only. `kept`: an earlier answer's item
        by its id, for those that are only referred to. Raises FieldFault."""
        return conversation(before, [item.found(kept) for item in self.items()])

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
            said=("instructions",) * len(system) + places(self.items(), len(messages)),
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
        return Held(form.type, form.json_schema, "text.format")

    def offers(self) -> tuple[Toolbox, ToolChoice]:
        """The tools that may be called, and whether one must be. Raises FieldFault."""
        return choose(offers_of(self.tools), self.tool_choice)
