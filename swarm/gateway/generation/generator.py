"""One way to generate for every endpoint: a request made plain becomes choices, each a stream of what to tell.

Endpoints turn their own JSON into a `GenerationRequest` and deltas into their own JSON. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from swarm.client import Client, Options
from swarm.errors import UsageFault
from swarm.gateway.event_bus import EventBus
from swarm.gateway.generation.choice import Choice, Reader
from swarm.gateway.generation.constraints import Constraints
from swarm.gateway.generation.prompt import write
from swarm.gateway.generation.request import GenerationRequest
from swarm.gateway.http.errors import FieldFault
from swarm.text.answers.harmony import HarmonyReader
from swarm.text.answers.reasoning import MARKS, ReasoningReader
from swarm.text.answers.tool_calls import CallReader
from swarm.text.answers.tool_formats import HERMES, ToolFormat

MAX_CHOICES = 16
UNASKED_TOKENS = 4096  # of an answer whose length nobody named: a weak model may never end, and caches grow with it
MAX_KEPT_PROMPTS = 64  # whose ids are remembered
MAX_KEPT_CHARACTERS = 1 << 20  # of one such prompt


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request in the model's own terms."""

    ids: tuple[int, ...]
    options: Options
    read: Callable[[], Reader | None]  # makes what looks for calls and thoughts, anew for each choice


class Generator:
    """Asks clients. `async with generator.choices(client, request) as choices`: leaving ends what still runs."""

    def __init__(self, bus: EventBus | None = None, *, special_tokens: bool = False) -> None:
        self._special_tokens = special_tokens  # whether their names in messages become these tokens
        self.bus = bus or EventBus()
        self.running: dict[str, Choice] = {}  # those that were not left yet
        self._emptied = asyncio.Event()
        self._constraints = Constraints()
        self._ids: OrderedDict[tuple[bytes, str], tuple[int, ...]] = OrderedDict()
        self._lock = threading.Lock()  # prompts are encoded in threads

    @asynccontextmanager
    async def choices(self, client: Client, request: GenerationRequest) -> AsyncIterator[list[Choice]]:
        """All choices of an answer, none of which has begun. Raises UsageFault for what cannot be honoured."""
        if not 1 <= request.choices <= MAX_CHOICES:
            raise UsageFault(f"n is {request.choices}: 1 to {MAX_CHOICES} choices are given")
        client.check_generates()
        prepared = await asyncio.to_thread(self._prepare, client, request)
        async with AsyncExitStack() as stack:
            choices = []
            for index in range(request.choices):
                options = replace(prepared.options, choice=index)
                answer = client.generate(prepared.ids, options=options, owner=request.owner)
                await stack.enter_async_context(aclosing(answer))
                choice = Choice(index, answer, client, request, prepared.read(), self.bus)
                self.running[choice.id] = choice
                stack.callback(self._left, choice.id)
                choices.append(choice)
            yield choices

    def _left(self, name: str) -> None:
        del self.running[name]
        if not self.running:
            self._emptied.set()

    async def idle(self) -> None:
        """Returns when no answer is under way."""
        while self.running:
            self._emptied.clear()
            await self._emptied.wait()

    async def count(self, client: Client, request: GenerationRequest) -> int:
        """Tokens of the prompt."""
        return len((await asyncio.to_thread(self._prepare, client, request)).ids)

    def _prepare(self, client: Client, request: GenerationRequest) -> _Prepared:
        """Off the event loop: templates, tokenizers and grammars take their time."""
        text, harmony = client.text, client.text.tool_format.body == "harmony"
        tools = () if request.tool_choice == "none" else request.tools
        form = (text.tool_format if text.template_takes_tools else HERMES) if tools else None
        if harmony and request.messages is not None:
            form = text.tool_format  # whose answers come in channels with or without tools
        thinks = request.messages is not None and not harmony
        constrain, stop = None, request.stop
        demanded = bool(tools) and request.tool_choice != "auto"
        if request.held is not None or demanded:
            thinks = False  # there is no room for thoughts
            if request.ignore_eos:
                raise FieldFault("ignore_eos: an answer that is held to a format ends where that does", "ignore_eos")
        if demanded:  # a format is for text only, and there is none
            wanted = _wanted(request)
            form, constrain = self._constraints.forced(client, form or HERMES, *wanted)
        elif request.held is not None:
            if tools and form is not None:
                constrain = self._constraints.held_or_call(client, request.held, form, tools)
            if constrain is None:
                form, constrain = None, self._constraints.held(client, request.held)
        if constrain is not None and form is not None:
            stop = ()  # half a call would be none
        ids, opened = self._prompt(client, request, tools, thinks)
        thinks = thinks and (text.thinks or opened)
        options = Options(
            max_tokens=UNASKED_TOKENS if request.max_tokens is None else request.max_tokens,
            sampling=request.sampling,
            stop=stop,
            ignore_eos=request.ignore_eos,
            turn=request.messages is not None,
            top_logprobs=request.top_logprobs,
            shown=(*(form.shown if form else ()), *(MARKS if thinks else ())),
            constrain=constrain,
        )
        return _Prepared(ids, options, lambda: _reader(form, request.tools, thinks, opened))

    def _prompt(
        self, client: Client, request: GenerationRequest, tools: Sequence[Mapping[str, Any]], thinks: bool
    ) -> tuple[tuple[int, ...], bool]:
        """The prompt's ids, and whether it ends in the middle of the model's thoughts."""
        if request.messages is None:
            if request.prompt is None:
                raise UsageFault("there is neither a prompt nor messages")
            given = request.prompt
            return given if isinstance(given, tuple) else self._encoded(client, given, special=True), False
        written = write(client.text, request, tools, thinks=thinks, as_tokens=self._special_tokens)
        return self._encoded(client, written.text, special=False), written.opened

    def _encoded(self, client: Client, text: str, special: bool) -> tuple[int, ...]:
        """The prompts of a conversation come again and again."""
        key = (client.model.digest + bytes([special]), text)
        with self._lock:
            found = self._ids.pop(key, None)
        if found is None:
            found = tuple(client.text.encode(text, add_special=True) if special else client.text.encode_prompt(text))
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
    return ReasoningReader(opened, calls) if thinks else calls


def _wanted(request: GenerationRequest) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The tools of which one has to be called, and their places in the request. Raises FieldFault."""
    choice = request.tool_choice
    places = request.places or tuple(f"tools[{number}]" for number in range(len(request.tools)))
    named = [
        (tool, place)
        for tool, place in zip(request.tools, places, strict=True)
        if not isinstance(choice, tuple) or tool["function"]["name"] in choice
    ]
    if not named:
        raise FieldFault(f"tool_choice names {', '.join(map(repr, choice))}, which is none of the tools", "tool_choice")
    return [tool for tool, _ in named], [place for _, place in named]
