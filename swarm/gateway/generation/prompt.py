"""From a request's messages to a model's prompt. Templates differ in what they take: one that refuses is shown the same words in
a shape that it may take, each change staying where it is made, so that a conversation's beginning stays the same. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm.errors import UsageFault
from swarm.gateway.generation.request import GenerationRequest
from swarm.gateway.http.errors import FieldFault
from swarm.text.answers.reasoning import MARKS
from swarm.text.answers.tool_formats import as_text, told
from swarm.text.tokenizer import Text

OPEN, CLOSE = MARKS
BLANK = "\n\n"

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's text."""

    text: str
    opened: bool = False  # it ends in the middle of the model's thoughts


def write(
    text: Text,
    request: GenerationRequest,
    tools: Sequence[Mapping[str, Any]],
    *,
    thinks: bool,
    as_tokens: bool = False,
) -> Prompt:
    """The prompt of a request's messages; not `thinks`: thoughts that the template begins are ended at once. `as_tokens`: names
    of control tokens in messages are these tokens. Raises FieldFault naming the first message that the template does not take."""
    given: Sequence[Message] = [_with_objects(message) for message in request.messages or ()]
    if not as_tokens:
        mark = text.control_tokens.marked
        given = [mark(message, answer=message["role"] == "assistant") for message in given]
        tools = mark(tools)
    begun = given[-1] if request.goes_on else None
    given = given[:-1] if request.goes_on else given
    if not text.template_takes_tools:
        given, tools = (told(given, tools), ()) if tools else (as_text(given), ())

    def rendered(messages: Sequence[Message]) -> str:
        return text.render_chat(messages, tools=tools, variables=request.variables)

    try:
        prompt = _first(rendered, given)
    except UsageFault as error:
        raise _blamed(error, rendered, given, request) from error
    return _begin(prompt, begun, thinks)


def _begin(prompt: str, begun: Message | None, thinks: bool) -> Prompt:
    """With the beginning of the answer, which is no thought unless it says so."""
    opens = prompt.rstrip().endswith(OPEN)
    if begun is None:
        ended = opens and not thinks
        return Prompt(f"{prompt.rstrip()}{BLANK}{CLOSE}{BLANK}" if ended else prompt, opens and not ended)
    words, head = begun["content"], OPEN if opens else ""
    if opens and words.lstrip().startswith(OPEN):  # the template has written the mark already
        prompt, head = prompt.rstrip().removesuffix(OPEN), ""
    elif opens and CLOSE not in words:
        prompt, head = f"{prompt.rstrip()}\n{begun.get('reasoning_content') or ''}\n{CLOSE}{BLANK}", ""
    said = head + words
    return Prompt(prompt + words, said.rfind(OPEN) > said.rfind(CLOSE))


def _first(rendered: Callable[[Sequence[Message]], str], messages: Sequence[Message]) -> str:
    """In the first shape that the template takes. Raises what it says of the shape that was sent."""
    refused: UsageFault | None = None
    for shape in _shapes(messages):
        try:
            return rendered(shape)
        except UsageFault as error:
            refused = refused or error
    assert refused is not None  # the first shape is what was sent
    raise refused


def _blamed(
    error: UsageFault,
    rendered: Callable[[Sequence[Message]], str],
    messages: Sequence[Message],
    request: GenerationRequest,
) -> FieldFault:
    """Names the message from which on the template refuses."""

    def taken(count: int) -> bool:
        try:
            _first(rendered, messages[:count])
        except UsageFault:
            return False
        return True

    extra = len(messages) - (len(request.messages or ()) - request.goes_on)  # the tools, in words of their own
    low, high = 0, len(messages)  # as many are taken; so many are not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    place = max(0, low - extra)
    field = request.said[place] if place < len(request.said) else f"messages[{place}]"
    field = f"{field}.role" if field.endswith("]") else field
    return FieldFault(f"{field}: {error}", field)


def _shapes(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The messages as they are, and as templates may want them."""
    shape = messages
    yield shape
    for change in (_one_system, _systems_to_users, _neighbours, _no_system):
        changed = change(shape)
        if changed != shape:
            shape = changed
            yield shape


def _leading(messages: Sequence[Message]) -> int:
    """How many of the system's messages come first."""
    return next((place for place, each in enumerate(messages) if each["role"] != "system"), len(messages))


def _one_system(messages: Sequence[Message]) -> Sequence[Message]:
    """The first messages of the system's as one."""
    count = _leading(messages)
    if count < 2:
        return messages
    words = BLANK.join(each["content"] for each in messages[:count])
    return [{"role": "system", "content": words}, *messages[count:]]


def _systems_to_users(messages: Sequence[Message]) -> Sequence[Message]:
    """The system's later words as part of the user's beside them."""
    count = _leading(messages)
    found, alone = [*messages[:count]], False
    for message in messages[count:]:
        system = message["role"] == "system"
        each = {"role": "user", "content": message["content"]} if system else message
        if each["role"] == "user" and found and found[-1]["role"] == "user" and (system or alone):
            found[-1] = _joined(found[-1], each)
            alone = alone and system
        else:
            found.append(each)
            alone = system
    return found


def _neighbours(messages: Sequence[Message]) -> Sequence[Message]:
    """Messages of one role after each other as one; results of tools stay as many as there were calls."""
    found: list[Message] = []
    for message in messages:
        if found and found[-1]["role"] == message["role"] and message["role"] != "tool":
            found[-1] = _joined(found[-1], message)
        else:
            found.append(message)
    return found


def _no_system(messages: Sequence[Message]) -> Sequence[Message]:
    """For templates that know no system: its words before the user's first."""
    return _neighbours([{**each, "role": "user"} if each["role"] == "system" else each for each in messages])


def _joined(first: Message, second: Message) -> Message:
    joined = {**second, **first, "content": BLANK.join(filter(None, (first["content"], second["content"])))}
    calls = [*first.get("tool_calls", ()), *second.get("tool_calls", ())]
    return joined | ({"tool_calls": calls} if calls else {})


def _with_objects(message: Message) -> Message:
    """Templates expect the arguments of calls as objects; OpenAI's API writes them as text.

    A model may have written what is no object: a conversation must be able to go on from that.
    """
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        written = call["function"].get("arguments") or "{}"
        try:
            given = json.loads(written) if isinstance(written, str) else written
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            given = {"arguments": written}
        calls.append({**call, "function": {**call["function"], "arguments": given}})
    return {**message, "tool_calls": calls}
