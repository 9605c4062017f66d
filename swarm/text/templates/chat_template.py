"""Chat templates: a model's own Jinja program that turns messages into its prompt, or that of the convention it follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Template, TemplateError, meta
from jinja2.exceptions import SecurityError

from swarm.checkpoint.small_files import read_object, read_text
from swarm.errors import ModelFault, UsageFault
from swarm.text.answers.tool_formats import HERMES, ToolFormat, format_of
from swarm.text.templates.conventions import Has, convention_of
from swarm.text.templates.sandbox import TooLong, environment, render

MAX_TEMPLATE_BYTES = 1 << 20
THOUGHTS_END = "</think>"
TOOL_USE = "tool_use"  # what a template for conversations with tools is called among named ones
_NOTHING: Mapping[str, Any] = MappingProxyType({})

Message = Mapping[str, Any]


class ChatTemplate:
    """One model's templates, compiled: for conversations, and perhaps another one for those with tools."""

    def __init__(
        self,
        template: Template,
        with_tools: Template | None,
        variables: Mapping[str, Any],
        origin: str,
        convention: str | None,
        tool_format: ToolFormat = HERMES,
        thinks: bool = False,
        source: str = "",
    ) -> None:
        self._template = template
        self._with_tools = with_tools  # None: it does not say how tools are shown to this model
        self._variables = variables
        self._origin = origin  # named in errors
        self.convention = convention  # whose template it is; None: the model's own
        self.thinks = thinks  # whether such a model writes down its thoughts first, between marks
        self.source = source  # as it was written
        self.tool_format = tool_format  # how such a model writes calls of tools

    @classmethod
    def load(
        cls,
        directory: Path,
        now: Callable[[], datetime],
        has: Has,
        said: Mapping[str, Any] = _NOTHING,
        by: Path | None = None,
    ) -> ChatTemplate:
        """chat_template.jinja, else the one in tokenizer_config.json, else that of the convention that the vocabulary
        (`has` a token?) speaks for. Where tokenizer_config.json is silent the file `by` has `said` something. Raises
        ModelFault."""
        stated = read_object(directory / "tokenizer_config.json")
        config = {**said, **stated}
        variables = _special_tokens(config | _without_nulls(config, directory))
        place = directory / "chat_template.jinja"
        own = read_text(place, MAX_TEMPLATE_BYTES)
        if own is None:
            place = directory / "tokenizer_config.json" if by is None or "chat_template" in stated else by
            sources = _named_ones(config.get("chat_template"), place)
        else:
            sources = {"default": own}
        if sources:
            origin = f"in {place}"
            template, takes_tools = _compiled(sources["default"], now, origin)
            with_tools = template if takes_tools else None
            if TOOL_USE in sources:
                with_tools, _ = _compiled(sources[TOOL_USE], now, origin)
            source = "\n".join(sources.values())
            return cls(template, with_tools, variables, origin, None, format_of(source), THOUGHTS_END in source, source)
        convention = convention_of(has)
        origin = f"of {convention.name}, for want of one of its own in {directory},"
        template, _ = _compiled(convention.template, now, origin)
        return cls(template, None, variables, origin, convention.name, source=convention.template)

    @property
    def takes_tools(self) -> bool:
        """Whether it knows how tools are shown to this model."""
        return self._with_tools is not None

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt's text; `variables` are more that this template may look at. Raises UsageFault where it refuses."""
        template = self._with_tools if tools and self._with_tools is not None else self._template
        given = {
            **self._variables,
            **(variables or {}),
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": add_generation_prompt,
            "tools": [dict(tool) for tool in tools] if tools else None,
            "documents": None,
        }
        try:
            return render(template, given)
        except (SecurityError, TooLong) as error:
            raise ModelFault(f"the chat template {self._origin} does what no template may: {error}") from error
        except Exception as error:  # a template is a program of strangers and may raise anything, also deliberately
            raise UsageFault(f"this model's chat template does not take these messages: {error}") from error


def _compiled(source: str, now: Callable[[], datetime], origin: str) -> tuple[Template, bool]:
    """The template, and whether it looks at tools. Raises ModelFault."""
    if len(source) > MAX_TEMPLATE_BYTES:
        raise ModelFault(f"the chat template {origin} is longer than {MAX_TEMPLATE_BYTES} characters")
    made = environment(now)
    try:
        return made.from_string(source), "tools" in meta.find_undeclared_variables(made.parse(source))
    except (TemplateError, RecursionError) as error:
        raise ModelFault(f"the chat template {origin} is no Jinja template: {error}") from error


def _named_ones(value: Any, origin: Path) -> dict[str, str]:
    """A template is given as text, or as a list of named ones of which `default` is the one for conversations."""
    if value is None or isinstance(value, str):
        return {} if value is None else {"default": value}
    try:
        named = {entry["name"]: entry["template"] for entry in value}
    except (TypeError, KeyError) as error:
        raise ModelFault(f"chat_template in {origin} is neither text nor a list of named templates") from error
    if not isinstance(named.get("default"), str):
        raise ModelFault(f"chat_template in {origin} names no default; there are: {', '.join(map(str, named))}")
    return {name: template for name, template in named.items() if isinstance(template, str)}


def _without_nulls(config: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """What special_tokens_map.json says of special tokens of which the configuration says nothing."""
    more = read_object(directory / "special_tokens_map.json")
    return {name: value for name, value in more.items() if config.get(name) is None}


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and its like, which templates use by name: written as text or as an object with the text in it."""
    found: dict[str, str] = {}
    for name, value in config.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            found[name] = content
    return found
