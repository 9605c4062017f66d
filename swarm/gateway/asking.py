"""One way to ask for every endpoint that generates: a request made plain becomes turns, each a stream of what to tell.

Endpoints turn their own JSON into an `Ask` and deltas into their own JSON. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from swarm.client import Answer, Client, Options
from swarm.client.calls import Call, CallReader
from swarm.client.constraint import Grammars
from swarm.client.generate import Token
from swarm.client.harmony import HarmonyReader, Thought
from swarm.client.tools import HERMES, ToolFormat, forced, told
from swarm.engine.sampler import Sampling
from swarm.errors import UsageFault
from swarm.gateway.hub import Hub

MAX_CHOICES = 16
TELL_SECONDS = 0.05  # between two events about one answer's tokens
MAX_KEPT_PROMPTS = 64  # whose ids are remembered
MAX_KEPT_CHARACTERS = 1 << 20  # of one such prompt

ToolChoice = Literal["auto", "none", "required"] | tuple[str]  # a tuple names the one function that is to be called


@dataclass(frozen=True, slots=True)
class Held:
    """What an answer's text has to be."""

    kind: Literal["json_object", "json_schema", "regex", "lark"]
    source: Mapping[str, Any] | str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, whoever's words it came in. Exactly one of `messages` and `prompt` is given."""

    model: str
    messages: tuple[Mapping[str, Any], ...] | None = None  # as in OpenAI's API, contents as text
    prompt: str | tuple[int, ...] | None = None  # to be gone on from as it is
    tools: tuple[Mapping[str, Any], ...] = ()  # checked by `check_tools`
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
    single_call: bool = False  # an answer ends with its first call


@dataclass(frozen=True, slots=True)
class ToldToken:
    """A token with its probability, where that was asked for."""

    id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...]


@dataclass(frozen=True, slots=True)
class ToldText:
    """What the reader is to see next; `tokens` are those drawn since the last, whose text may still be held back."""

    text: str
    tokens: tuple[ToldToken, ...] = ()


@dataclass(frozen=True, slots=True)
class ToldCall:
    """A tool that the model wants to have called."""

    index: int
    id: str
    name: str
    arguments: str


Delta = ToldText | Thought | ToldCall


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request, all choices together."""

    prompt: int
    completion: int
    cached: int  # of the prompt, those whose rows were still there


class Turn:
    """One choice: `async for delta in turn`, then `finish_reason`."""

    def __init__(
        self, index: int, answer: Answer, client: Client, ask: Ask, reader: CallReader | HarmonyReader | None, hub: Hub
    ) -> None:
        self.index = index
        self.answer = answer
        self.ask = ask
        self.id = secrets.token_hex(6)  # in the status and its events
        self.began = asyncio.get_running_loop().time()
        self.finish_reason: Literal["stop", "length", "tool_calls"] | None = None
        self._client = client
        self._reader = reader
        self._hub = hub
        self._told_at = float("-inf")  # loop time
        self._recoveries = 0
        self._calls = 0

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self._deltas()

    async def _deltas(self) -> AsyncGenerator[Delta, None]:
        async with aclosing(self._all()) as deltas:
            async for delta in deltas:
                yield delta
                if self.ask.single_call and isinstance(delta, ToldCall):
                    break
        full = self.answer.finish_reason == "length"
        self.finish_reason = "length" if full else "tool_calls" if self._calls else "stop"

    async def _all(self) -> AsyncGenerator[Delta, None]:
        self._hub.publish("session", session=self.id, model=self.ask.model, phase="opened")
        try:
            async for token in self.answer:
                self._publish()
                for delta in self._told(token):
                    yield delta
        finally:
            timings = self.answer.timings
            self._hub.publish(
                "session",
                session=self.id,
                model=self.ask.model,
                phase="ended",
                prompt_tokens=len(self.answer.prompt_ids),
                cached_tokens=self.answer.cached_tokens,
                tokens=len(self.answer.token_ids),
                first_token_s=timings.first_token,
                decoding_s=timings.decoding,
            )
        for piece in self._reader.finish() if self._reader else ():
            yield self._delta(piece)

    def _publish(self) -> None:
        """How far it is, now and then; and who was replaced."""
        now = asyncio.get_running_loop().time()
        for recovery in getattr(self.answer.session, "recoveries", ())[self._recoveries :]:
            self._recoveries += 1
            self._hub.publish(
                "failover",
                session=self.id,
                peer=recovery.peer_id.hex(),
                layers=str(recovery.span),
                to=[peer_id.hex() for peer_id in recovery.replacements],
                cause=recovery.cause,
                rows=recovery.position,
                seconds=round(recovery.seconds, 3),
            )
        if now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            self._hub.publish("token", session=self.id, tokens=len(self.answer.token_ids))

    def _told(self, token: Token) -> list[Delta]:
        tokens: tuple[ToldToken, ...] = ()
        if token.logprob is not None:
            pieces = self._client.text.piece
            top = tuple((number, pieces(number), logprob) for number, logprob in token.top)
            tokens = (ToldToken(token.id, pieces(token.id), token.logprob, top),)
        if self._reader is None:
            return [ToldText(token.text, tokens)] if token.text or tokens else []
        deltas = [self._delta(piece) for piece in self._reader.push(token.text)]
        return [ToldText("", tokens), *deltas] if tokens else deltas

    def _delta(self, piece: str | Call | Thought) -> Delta:
        if isinstance(piece, str):
            return ToldText(piece)
        if isinstance(piece, Thought):
            return piece
        self._calls += 1
        return ToldCall(self._calls - 1, f"call_{secrets.token_hex(12)}", piece.name, piece.arguments)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request in the model's own terms."""

    ids: tuple[int, ...]
    options: Options
    form: ToolFormat | None  # of the calls to look for; None: none can come


class Asking:
    """Asks clients. `async with asking.turns(client, ask) as turns`: leaving ends what still runs."""

    def __init__(self, hub: Hub | None = None) -> None:
        self.hub = hub or Hub()
        self.running: dict[str, Turn] = {}  # those that were not left yet
        self._grammars: dict[str, Grammars] = {}  # by model: at most as many as there are clients
        self._ids: OrderedDict[tuple[bytes, str], tuple[int, ...]] = OrderedDict()
        self._lock = threading.Lock()  # prompts are encoded in threads

    @asynccontextmanager
    async def turns(self, client: Client, ask: Ask) -> AsyncIterator[list[Turn]]:
        """One turn for each choice, none of which has begun. Raises UsageFault for what cannot be honoured."""
        if not 1 <= ask.choices <= MAX_CHOICES:
            raise UsageFault(f"n is {ask.choices}: 1 to {MAX_CHOICES} choices are given")
        prepared = await asyncio.to_thread(self._prepare, client, ask)
        async with AsyncExitStack() as stack:
            turns = []
            for index in range(ask.choices):
                options = replace(prepared.options, choice=index)
                answer = client.generate(prepared.ids, options=options)
                await stack.enter_async_context(aclosing(answer))
                turn = Turn(index, answer, client, ask, _reader(prepared.form, ask.tools), self.hub)
                self.running[turn.id] = turn
                stack.callback(self.running.pop, turn.id)
                turns.append(turn)
            yield turns

    async def count(self, client: Client, ask: Ask) -> int:
        """Tokens of the prompt."""
        return len((await asyncio.to_thread(self._prepare, client, ask)).ids)

    def _prepare(self, client: Client, ask: Ask) -> _Prepared:
        """Off the event loop: templates and tokenizers take their time."""
        text = client.text
        tools = () if ask.tool_choice == "none" else ask.tools
        form = (text.tool_format if text.template_takes_tools else HERMES) if tools else None
        if not tools and text.tool_format.body == "harmony":
            form = text.tool_format  # whose answers come in channels with or without tools
        constrain = None
        if ask.held is not None:
            made = self._grammars_of(client)
            constrain = (
                made.json_object() if ask.held.kind == "json_object" else getattr(made, ask.held.kind)(ask.held.source)
            )
        elif tools and ask.tool_choice != "auto":
            form, constrain = self._forced(client, form or HERMES, _wanted(tools, ask.tool_choice))
        options = Options(
            max_tokens=ask.max_tokens,
            sampling=ask.sampling,
            stop=ask.stop,
            ignore_eos=ask.ignore_eos,
            top_logprobs=ask.top_logprobs,
            shown=form.shown if form else (),
            constrain=constrain,
        )
        return _Prepared(self._prompt(client, ask, tools), options, form)

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

    def _prompt(self, client: Client, ask: Ask, tools: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        if ask.messages is None:
            if ask.prompt is None:
                raise UsageFault("there is neither a prompt nor messages")
            return ask.prompt if isinstance(ask.prompt, tuple) else self._encoded(client, ask.prompt, special=True)
        messages: Sequence[Mapping[str, Any]] = [_with_objects(message) for message in ask.messages]
        if tools and not client.text.template_takes_tools:
            messages, tools = told(messages, tools), ()
        rendered = client.text.render_chat(messages, tools=tools, variables=ask.variables)
        return self._encoded(client, rendered, special=False)

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


def usage_of(turns: Sequence[Turn]) -> Usage:
    """Of all choices together, so far."""
    answers = [turn.answer for turn in turns]
    return Usage(len(answers[0].prompt_ids), sum(len(answer.token_ids) for answer in answers), answers[0].cached_tokens)


def _reader(form: ToolFormat | None, tools: Sequence[Mapping[str, Any]]) -> CallReader | HarmonyReader | None:
    if form is None:
        return None
    return HarmonyReader() if form.body == "harmony" else CallReader(form, tools)


def _wanted(tools: Sequence[Mapping[str, Any]], choice: ToolChoice) -> list[Mapping[str, Any]]:
    """The tools of which one has to be called. Raises UsageFault."""
    if not isinstance(choice, tuple):
        return list(tools)
    named = [tool for tool in tools if tool["function"]["name"] == choice[0]]
    if not named:
        raise UsageFault(f"tool_choice names {choice[0]!r}, which is none of the tools")
    return named


def _with_objects(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Templates expect the arguments of calls as objects; OpenAI's API writes them as text."""
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = call["function"].get("arguments") or "{}"
        try:
            given = json.loads(arguments) if isinstance(arguments, str) else arguments
        except ValueError as error:
            raise UsageFault(
                f"the arguments of a call of {call['function'].get('name')} are no JSON: {error}"
            ) from error
        calls.append({**call, "function": {**call["function"], "arguments": given}})
    return {**message, "tool_calls": calls}
