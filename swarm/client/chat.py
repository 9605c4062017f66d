"""Chat templates: a model's own Jinja program that turns messages into its prompt, run in a sandbox.

The environment is the one for which such templates are written (that of transformers' `apply_chat_template`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from swarm.client.files import read_json, read_text
from swarm.errors import ModelFault, UsageFault

MAX_TEMPLATE_BYTES = 1 << 20

Message = Mapping[str, Any]


class ChatTemplate:
    """One model's template, compiled. `origin` names the file it came from."""

    def __init__(self, template: Template, variables: Mapping[str, Any], origin: Path) -> None:
        self._template = template
        self._variables = variables
        self._origin = origin

    @classmethod
    def load(cls, directory: Path, now: Callable[[], datetime]) -> ChatTemplate | None:
        """chat_template.jinja, else the one in tokenizer_config.json, else None. Raises ModelFault."""
        config = read_json(directory / "tokenizer_config.json")
        origin = directory / "chat_template.jinja"
        source = read_text(origin, MAX_TEMPLATE_BYTES)
        if source is None:
            origin = directory / "tokenizer_config.json"
            source = _named_default(config.get("chat_template"), origin)
        if source is None:
            return None
        if len(source) > MAX_TEMPLATE_BYTES:
            raise ModelFault(f"the chat template in {origin} is longer than {MAX_TEMPLATE_BYTES} characters")
        try:
            template = _environment(now).from_string(source)
        except (TemplateError, RecursionError) as error:
            raise ModelFault(f"the chat template in {origin} is no Jinja template: {error}") from error
        return cls(template, _special_tokens(config | _without_nulls(config, directory)), origin)

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """The prompt's text. Raises UsageFault where the template refuses the messages."""
        try:
            return self._template.render(
                **self._variables,
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
            )
        except SecurityError as error:
            raise ModelFault(f"the chat template in {self._origin} does what no template may: {error}") from error
        except Exception as error:  # a template is a program of strangers and may raise anything, also deliberately
            raise UsageFault(f"this model's chat template does not take these messages: {error}") from error


def _named_default(value: Any, origin: Path) -> str | None:
    """A template is given as text, or as a list of named ones of which `default` is the one for conversations."""
    if value is None or isinstance(value, str):
        return value
    try:
        named = {entry["name"]: entry["template"] for entry in value}
    except (TypeError, KeyError) as error:
        raise ModelFault(f"chat_template in {origin} is neither text nor a list of named templates") from error
    if not isinstance(named.get("default"), str):
        raise ModelFault(f"chat_template in {origin} names no default; there are: {', '.join(map(str, named))}")
    return str(named["default"])


def _without_nulls(config: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """What special_tokens_map.json says of special tokens of which the configuration says nothing."""
    more = read_json(directory / "special_tokens_map.json")
    return {name: value for name, value in more.items() if config.get(name) is None}


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and its like, which templates use by name: written as text or as an object with the text in it."""
    found: dict[str, str] = {}
    for name, value in config.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            found[name] = content
    return found


def _environment(now: Callable[[], datetime]) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: now().strftime(form)
    return environment


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    """Jinja's own filter escapes for HTML and for ASCII, which no model has been trained on."""
    return json.dumps(value, ensure_ascii=options.pop("ensure_ascii", False), indent=indent, **options)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks the model's words for training; here it is just its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
