"""What an answer is held to: a format, a call that is demanded, or a format with tools that may be called instead."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from swarm.client import Client
from swarm.errors import UsageFault
from swarm.gateway.generation.request import Held
from swarm.gateway.http.errors import FieldFault
from swarm.text.answers.call_grammars import answer_or_calls, forced
from swarm.text.answers.tool_formats import HERMES, Tool, ToolFormat
from swarm.text.grammar import ANY_JSON, JSON_OPTIONS, Grammars, Matcher
from swarm.text.schema_loosening import ANYTHING, loosen

Constrain = Callable[[], Matcher]


class Constraints:
    """Makes them, for every model that is asked."""

    def __init__(self) -> None:
        self._grammars: dict[str, Grammars] = {}  # by model: at most as many as there are clients

    def held(self, client: Client, held: Held) -> Constrain:
        """Answers of a format. Raises FieldFault."""
        made = self._of(client)
        with blaming(held.field):
            if held.kind == "json_object":
                return made.json_object()
            compiled: Constrain = getattr(made, held.kind)(held.source)
            return compiled

    def held_or_call(self, client: Client, held: Held, form: ToolFormat, tools: Sequence[Tool]) -> Constrain | None:
        """Answers of a format, or calls. None where only one of them can be had. Raises FieldFault."""
        if held.kind not in ("json_object", "json_schema"):
            return None
        schema = held.source if held.kind == "json_schema" else json.loads(ANY_JSON)
        assert not isinstance(schema, str)
        expression = f"%json {json.dumps({**schema, 'x-guidance': JSON_OPTIONS}, ensure_ascii=False)}"
        grammar = answer_or_calls(expression, form, tools, _marks(client).get)
        if grammar is None:
            return None
        self.held(client, held)  # so that what is wrong with it is said of it alone
        with blaming(held.field):
            return self._of(client).lark(grammar)

    def forced(
        self, client: Client, form: ToolFormat, tools: Sequence[Tool], places: Sequence[str]
    ) -> tuple[ToolFormat, Constrain]:
        """Answers that are one call of one of these tools, in the model's own format if its arguments are JSON. What no
        grammar can express is left out of the schemas of tools that are not strict. Raises FieldFault."""
        id_of, made = _marks(client).get, self._of(client)
        form = form if forced(form, tools, id_of) is not None else HERMES

        def compiled(tools: Sequence[Tool]) -> Constrain:
            return made.lark(forced(form, tools, id_of) or "")

        with blaming("tools"):
            try:
                return form, compiled(tools)
            except UsageFault:
                expressible = _expressible(tools, places)
            try:
                return form, compiled(expressible)
            except UsageFault:  # only all of them together are too much
                return form, compiled([tool if _strict(tool) else _with(tool, ANYTHING) for tool in tools])

    def _of(self, client: Client) -> Grammars:
        name = client.model.digest.hex()
        if name not in self._grammars:
            self._grammars[name] = Grammars(client.text, client.spec.vocab)
        return self._grammars[name]


def _marks(client: Client) -> dict[str, int]:
    """Ids of tokens that text is always cut into where it holds their names; other vocabulary is one way to write it of many."""
    return {token.content: number for number, token in client.text.tokenizer.get_added_tokens_decoder().items()}


def _expressible(tools: Sequence[Tool], places: Sequence[str]) -> list[Tool]:
    """The tools with what of their schemas a grammar can express. Raises FieldFault for a strict one that it cannot."""
    found = []
    loosened = loosen([tool["function"]["parameters"] for tool in tools])
    for number, (tool, (complaint, schema)) in enumerate(zip(tools, loosened, strict=True)):
        place = places[number] if places else f"tools[{number}]"
        if complaint and _strict(tool):
            raise FieldFault(
                f"{place} is strict, and its parameters cannot be held to: {' '.join(complaint.split())}", place
            )
        found.append(tool if _strict(tool) else _with(tool, schema))
    return found


def _strict(tool: Tool) -> bool:
    return bool(tool["function"].get("strict"))


def _with(tool: Tool, parameters: Mapping[str, Any]) -> Tool:
    return {**tool, "function": {**tool["function"], "parameters": parameters}}


@contextmanager
def blaming(field: str) -> Iterator[None]:
    """Names the field that asked for what cannot be honoured."""
    try:
        yield
    except FieldFault:
        raise
    except UsageFault as error:
        raise FieldFault(str(error), field) from error
