"""What may stand in a request. Null means absent, unknown fields are ignored, what cannot be honoured is refused by name.

Pure: JSON in, a `GenerationRequest` out.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from swarm.client.generate import MAX_STOPS
from swarm.gateway.generation.generator import MAX_CHOICES
from swarm.gateway.generation.request import GenerationRequest, Held, ToolChoice
from swarm.gateway.generation.tools import Offered, Toolbox, custom, toolbox
from swarm.gateway.http.errors import FieldFault
from swarm.gateway.http.fields import Limit, Whole, whole_ids
from swarm.gateway.openai.messages import (
    Fields,
    Message,
    plain_messages,
)
from swarm.sampling import Sampling

MAX_MESSAGES = 4096
MAX_LOGPROBS = 20  # of chat; completions know 5
SEED_BITS = 31  # of a seed drawn for want of one
DEFAULT_TEMPERATURE = 1.0  # OpenAI's

Name = Annotated[str, Field(min_length=1, max_length=512)]


def few_stops(stops: list[str]) -> list[str]:
    """Each of them once; an empty one says nothing. Raises ValueError."""
    few = list(dict.fromkeys(filter(None, stops)))
    if len(few) > MAX_STOPS:
        raise ValueError(f"at most {MAX_STOPS} stops are taken, not {len(few)}")
    return few


class StreamOptions(Fields):
    include_usage: bool = False


class SamplingFields(Fields):
    """How tokens are drawn, in any of OpenAI's requests."""

    model: Name
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Whole = Field(1, ge=1, le=MAX_CHOICES)
    max_tokens: Limit = Field(None, ge=1)
    temperature: float = Field(DEFAULT_TEMPERATURE, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: Whole = Field(0, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=1000)
    logit_bias: dict[str, float] = Field(default_factory=dict)
    seed: Whole | None = Field(None, ge=-(1 << 63), lt=1 << 63)
    stop: str | list[str] = Field(default_factory=list)
    ignore_eos: bool = False
    user: str | None = None

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, value: str | list[str]) -> list[str]:
        return few_stops([value] if isinstance(value, str) else value)

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self) -> Sampling:
        """Raises UsageFault naming what is out of range."""
        bias = []
        for token, value in self.logit_bias.items():
            if not token.isascii() or not token.isdigit():
                raise FieldFault(f"logit_bias: {token!r} is no token id", "logit_bias")
            bias.append((int(token), value))
        return Sampling(
            temperature=self.temperature,
            top_k=max(self.top_k, 0),
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=secrets.randbits(SEED_BITS) if self.seed is None else self.seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple(bias),
        )


def offers_of(tools: Sequence[Any]) -> Toolbox:
    """All that can be called here. Raises FieldFault."""
    offered: list[Offered] = []
    left_out: list[str] = []
    for number, tool in enumerate(tools):
        place = f"tools[{number}]"
        kind = tool.get("type", "function") if isinstance(tool, Mapping) else None
        if not isinstance(tool, Mapping) or not isinstance(kind, str):
            raise FieldFault(f"{place} is no tool", place)
        if kind not in ("function", "custom"):
            left_out.append(kind)
            continue
        inner = tool.get(kind)
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
            raise FieldFault(f"{place}.{kind} needs a name", place)
        if kind == "function":
            offered.append(Offered(inner, place))
        else:
            offered.append(
                custom(inner["name"], str(inner.get("description") or ""), _format(inner.get("format")), place)
            )
    return toolbox(offered, left_out)


def _format(form: Any) -> Any:
    """Chat wraps a grammar once more than responses do."""
    return form.get("grammar", form) if isinstance(form, Mapping) else form


class JsonSchema(Fields):
    name: str = ""
    json_schema: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool = False


class ResponseFormat(Fields):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def held(self) -> Held | None:
        """Raises FieldFault."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return Held("json_object")
        if self.json_schema is None:
            raise FieldFault("response_format.json_schema is missing", "response_format.json_schema")
        return Held("json_schema", self.json_schema.json_schema)


class NamedFunction(Fields):
    name: Name


class AllowedTools(Fields):
    mode: Literal["auto", "required"] = "auto"
    tools: list[NamedTool] = Field(default_factory=list)


class NamedTool(Fields):
    type: str = "function"
    function: NamedFunction | None = None
    custom: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None

    @property
    def name(self) -> str:
        named = self.custom or self.function
        return "" if named is None else named.name


class ChatRequest(SamplingFields):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: Limit = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: Whole | None = Field(None, ge=0, le=MAX_LOGPROBS)
    tools: list[Any] = Field(default_factory=list)
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = Field(None, max_length=64)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    modalities: list[str] = Field(default_factory=lambda: ["text"])
    audio: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise FieldFault("top_logprobs needs logprobs to be true", "top_logprobs")
        return self

    def plain(self, owner: str) -> GenerationRequest:
        """Raises UsageFault for what cannot be honoured."""
        for field in ("audio", "functions", "function_call", "web_search_options"):
            if getattr(self, field) not in (None, [], "none", "auto"):  # these ask for nothing
                raise FieldFault(f"{field} cannot be honoured here", field)
        if self.modalities != ["text"]:
            raise FieldFault("modalities: text is all that this model writes", "modalities")
        variables: Mapping[str, Any] = self.chat_template_kwargs
        if self.reasoning_effort is not None:
            variables = {**variables, "reasoning_effort": self.reasoning_effort}
        box, choice = self.offers()
        return GenerationRequest(
            model=self.model,
            messages=plain_messages(self.messages),
            **box.fields(),
            tool_choice=choice,
            held=self.response_format.held() if self.response_format else None,
            choices=self.n,
            sampling=self.sampling(),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=tuple(self.stop),
            ignore_eos=self.ignore_eos,
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            variables=variables,
            owner=owner,
            single_call=not self.parallel_tool_calls,
        )

    def offers(self) -> tuple[Toolbox, ToolChoice]:
        """The tools that may be called, and whether one must be. Raises FieldFault."""
        box, choice = offers_of(self.tools), self.tool_choice
        if choice == "required":
            return box, box.demanded()
        if not isinstance(choice, NamedTool):
            return box, "none" if choice == "none" else "auto"
        if choice.allowed_tools is not None:
            return box.allowed([each.name for each in choice.allowed_tools.tools], choice.allowed_tools.mode)
        return box, box.demanded([box.sure(choice.name, choice.type)])


class CompletionRequest(SamplingFields):
    """`POST /v1/completions`: the prompt is gone on from as it is."""

    prompt: Annotated[str | list[str] | list[int] | list[list[int]], BeforeValidator(whole_ids)]
    max_tokens: Limit = Field(16, ge=1)  # OpenAI's own default here
    logprobs: Whole | None = Field(None, ge=0, le=MAX_LOGPROBS)
    echo: bool = False
    best_of: Whole | None = None
    suffix: str | None = None
    response_format: ResponseFormat | None = None

    def plain_requests(self, owner: str) -> list[GenerationRequest]:
        """One for each prompt. Raises UsageFault for what cannot be honoured."""
        if self.best_of is not None and self.best_of != self.n:
            raise FieldFault("best_of: only as many as n are made, and all are given", "best_of")
        if self.suffix:
            raise FieldFault("suffix: this model does not fill in", "suffix")
        if self.echo and self.logprobs is not None:
            raise FieldFault("logprobs of an echoed prompt are not computed", "echo")
        prompts = self._prompts()
        if not 1 <= len(prompts) * self.n <= MAX_CHOICES:
            raise FieldFault(f"prompt: 1 to {MAX_CHOICES} choices are given for all prompts together", "prompt")
        return [
            GenerationRequest(
                model=self.model,
                prompt=prompt,
                held=self.response_format.held() if self.response_format else None,
                choices=self.n,
                sampling=self.sampling(),
                max_tokens=self.max_tokens,
                stop=tuple(self.stop),
                ignore_eos=self.ignore_eos,
                top_logprobs=self.logprobs,
                owner=owner,
            )
            for prompt in prompts
        ]

    def _prompts(self) -> list[str | tuple[int, ...]]:
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if prompt and all(isinstance(each, int) for each in prompt):
            return [tuple(prompt)]  # type: ignore[arg-type]
        return [each if isinstance(each, str) else tuple(each) for each in prompt]  # type: ignore[arg-type]
