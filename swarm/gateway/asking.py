"""One way to ask for every endpoint that generates: a request made plain becomes turns, each a stream of what to tell.

Endpoints turn their own JSON into an `Ask` and deltas into their own JSON. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from swarm.client import Client, Options
from swarm.client.calls import CallReader
from swarm.client.constraint import Grammars, Matcher
from swarm.client.harmony import HarmonyReader
from swarm.client.thoughts import MARKS, ThoughtReader
from swarm.client.tools import HERMES, ToolFormat, forced, told
from swarm.errors import UsageFault
from swarm.gateway.ask import Ask, Held, ToolChoice
from swarm.gateway.errors import FieldFault
from swarm.gateway.hub import Hub
from swarm.gateway.turns import Reader, Turn

MAX_CHOICES = 16
UNASKED_TOKENS = 4096  # of an answer whose length nobody named: workers keep room for all of it from its beginning
MAX_KEPT_PROMPTS = 64  # whose ids are remembered
MAX_KEPT_CHARACTERS = 1 << 20  # of one such prompt


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request in the model's own terms."""

    ids: tuple[int, ...]
    options: Options
    read: Callable[[], Reader | None]  # makes what looks for calls and thoughts, anew for each choice


class Asking:
    """Asks clients. `async with asking.turns(client, ask) as turns`: leaving ends what still runs."""

    def __init__(self, hub: Hub | None = None) -> None:
        self.hub = hub or Hub()
        self.running: dict[str, Turn] = {}  # those that were not left yet
        self._emptied = asyncio.Event()
        self._grammars: dict[str, Grammars] = {}  # by model: at most as many as there are clients
        self._ids: OrderedDict[tuple[bytes, str], tuple[int, ...]] = OrderedDict()
        self._lock = threading.Lock()  # prompts are encoded in threads

    @asynccontextmanager
    async def turns(self, client: Client, ask: Ask) -> AsyncIterator[list[Turn]]:
        """One turn for each choice, none of which has begun. Raises UsageFault for what cannot be honoured."""
        if not 1 <= ask.choices <= MAX_CHOICES:
            raise UsageFault(f"n is {ask.choices}: 1 to {MAX_CHOICES} choices are given")
        client.check_generates()
        prepared = await asyncio.to_thread(self._prepare, client, ask)
        async with AsyncExitStack() as stack:
            turns = []
            for index in range(ask.choices):
                options = replace(prepared.options, choice=index)
                answer = client.generate(prepared.ids, options=options, owner=ask.owner)
                await stack.enter_async_context(aclosing(answer))
                turn = Turn(index, answer, client, ask, prepared.read(), self.hub)
                self.running[turn.id] = turn
                stack.callback(self._left, turn.id)
                turns.append(turn)
            yield turns

    def _left(self, name: str) -> None:
        del self.running[name]
        if not self.running:
            self._emptied.set()

    async def idle(self) -> None:
        """Returns when no answer is under way."""
        while self.running:
            self._emptied.clear()
            await self._emptied.wait()

    async def count(self, client: Client, ask: Ask) -> int:
        """Tokens of the prompt."""
        return len((await asyncio.to_thread(self._prepare, client, ask)).ids)

    def _prepare(self, client: Client, ask: Ask) -> _Prepared:
        """Off the event loop: templates, tokenizers and grammars take their time."""
        text, harmony = client.text, client.text.tool_format.body == "harmony"
        tools = () if ask.tool_choice == "none" else ask.tools
        form = (text.tool_format if text.template_takes_tools else HERMES) if tools else None
        if harmony and ask.messages is not None:
            form = text.tool_format  # whose answers come in channels with or without tools
        thinks = text.thinks and ask.messages is not None and not harmony
        constrain, stop = None, ask.stop
        if ask.held is not None or (tools and ask.tool_choice != "auto"):
            thinks = False  # there is no room for thoughts
            _check_held(ask)
            if ask.held is not None:
                with _blaming("response_format"):
                    form, constrain = None, self._holding(client, ask.held)
            else:
                with _blaming("tools"):
                    form, constrain = self._forced(client, form or HERMES, _wanted(tools, ask.tool_choice))
                stop = ()  # half a call would be none
        ids, opened = self._prompt(client, ask, tools)
        options = Options(
            max_tokens=UNASKED_TOKENS if ask.max_tokens is None else ask.max_tokens,
            sampling=ask.sampling,
            stop=stop,
            ignore_eos=ask.ignore_eos,
            top_logprobs=ask.top_logprobs,
            shown=(*(form.shown if form else ()), *(MARKS if thinks else ())),
            constrain=constrain,
        )
        return _Prepared(ids, options, lambda: _reader(form, ask.tools, thinks, opened))

    def _holding(self, client: Client, held: Held) -> Callable[[], Matcher]:
        made = self._grammars_of(client)
        if held.kind == "json_object":
            return made.json_object()
        compiled: Callable[[], Matcher] = getattr(made, held.kind)(held.source)
        return compiled

    def _forced(self, client: Client, form: ToolFormat, tools: Sequence[Mapping[str, Any]]) -> tuple[ToolFormat, Any]:
        """A grammar of one call, in the model's own format if its arguments are JSON."""
        grammar = forced(form, tools, client.text.tokenizer.token_to_id)
        if grammar is None:
            form, grammar = HERMES, forced(HERMES, tools, client.text.tokenizer.token_to_id)
        assert grammar is not None
        return form, self._grammars_of(client).lark(grammar)

    def _grammars_of(self, client: Client) -> Grammars:
        name = client.model.digest.hex()
        if name not in self._grammars:
            self._grammars[name] = Grammars(client.text, client.spec.vocab)
        return self._grammars[name]

    def _prompt(self, client: Client, ask: Ask, tools: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, ...], bool]:
        """The prompt's ids, and whether it ends in the middle of the model's thoughts."""
        if ask.messages is None:
            if ask.prompt is None:
                raise UsageFault("there is neither a prompt nor messages")
            given = ask.prompt
            return given if isinstance(given, tuple) else self._encoded(client, given, special=True), False
        given_messages, begun = (ask.messages[:-1], ask.messages[-1]["content"]) if ask.goes_on else (ask.messages, "")
        messages: Sequence[Mapping[str, Any]] = [_with_objects(message) for message in given_messages]
        if tools and not client.text.template_takes_tools:
            messages, tools = told(messages, tools), ()

        def rendered(messages: Sequence[Mapping[str, Any]]) -> str:
            return client.text.render_chat(messages, tools=tools, variables=ask.variables)

        try:
            prompt = rendered(messages)
        except UsageFault:
            joined = _one_system(messages)
            if joined is None:
                raise
            prompt = rendered(joined)
        prompt += begun
        return self._encoded(client, prompt, special=False), prompt.rstrip().endswith(MARKS[0])

    def _encoded(self, client: Client, text: str, special: bool) -> tuple[int, ...]:
        """The prompts of a conversation come again and again."""
        key = (client.model.digest + bytes([special]), text)
        with self._lock:
            found = self._ids.pop(key, None)
        if found is None:
            found = tuple(client.text.encode(text, add_special=special))
        if len(text) <= MAX_KEPT_CHARACTERS:
            with self._lock:
                self._ids[key] = found  # as the one used last
                while len(self._ids) > MAX_KEPT_PROMPTS:
                    self._ids.popitem(last=False)
        return found


def _reader(form: ToolFormat | None, tools: Sequence[Mapping[str, Any]], thinks: bool, opened: bool) -> Reader | None:
    if form is not None and form.body == "harmony":
        return HarmonyReader()
    calls = None if form is None else CallReader(form, tools)
    return ThoughtReader(opened, calls) if thinks else calls


@contextmanager
def _blaming(field: str) -> Iterator[None]:
    """Names the field that asked for what cannot be honoured."""
    try:
        yield
    except FieldFault:
        raise
    except UsageFault as error:
        raise FieldFault(str(error), field) from error


def _check_held(ask: Ask) -> None:
    """What a grammar cannot be joined with. Raises FieldFault."""
    if ask.ignore_eos:
        raise FieldFault("ignore_eos: an answer that is held to a format ends where that does", "ignore_eos")
    if ask.held is not None and ask.tools and ask.tool_choice not in ("auto", "none"):
        raise FieldFault("tool_choice demands a call, response_format forbids one", "tool_choice")


def _wanted(tools: Sequence[Mapping[str, Any]], choice: ToolChoice) -> list[Mapping[str, Any]]:
    """The tools of which one has to be called. Raises FieldFault."""
    if not isinstance(choice, tuple):
        return list(tools)
    named = [tool for tool in tools if tool["function"]["name"] == choice[0]]
    if not named:
        raise FieldFault(f"tool_choice names {choice[0]!r}, which is none of the tools", "tool_choice")
    return named


def _one_system(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """With the first messages of the system's as one, for templates that take no more; None where there is none too many."""
    count = next((place for place, each in enumerate(messages) if each["role"] != "system"), len(messages))
    if count < 2:
        return None
    words = "\n\n".join(each["content"] for each in messages[:count])
    return [{"role": "system", "content": words}, *messages[count:]]


def _with_objects(message: Mapping[str, Any]) -> Mapping[str, Any]:
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
