"""A request made plain, whichever API it came in by. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from swarm.sampling import Sampling

# A tuple names the functions of which one is to be called.
ToolChoice = Literal["auto", "none", "required"] | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """What an answer's text has to be."""

    kind: Literal["json_object", "json_schema", "regex", "lark"]
    source: Mapping[str, Any] | str = ""
    field: str = "response_format"  # that asked for it


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request, whoever's words it came in. Exactly one of `messages` and `prompt` is given."""

    model: str
    messages: tuple[Mapping[str, Any], ...] | None = None  # as in OpenAI's API, contents as text
    said: tuple[str, ...] = ()  # the fields that the messages came from, as errors name them
    prompt: str | tuple[int, ...] | None = None  # to be gone on from as it is
    tools: tuple[Mapping[str, Any], ...] = ()  # checked by `check_tools`
    places: tuple[str, ...] = ()  # where each tool stands in the request, for errors
    left_out: tuple[str, ...] = ()  # types of tools that cannot be called here
    told_whole: frozenset[str] = frozenset()  # tools whose calls are not told bit by bit
    tool_choice: ToolChoice = "auto"
    held: Held | None = None
    choices: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)  # more that the chat template may look at
    owner: str = ""  # whose prefixes may be reused
    goes_on: bool = False  # the last message is the beginning of the answer
    single_call: bool = False  # an answer ends with its first call
