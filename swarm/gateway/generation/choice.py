"""One choice of an answer, as a stream of what to tell: text, thoughts, calls of tools, probabilities. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal

from swarm.client import Answer, Client
from swarm.client.generate import Token
from swarm.gateway.event_bus import EventBus
from swarm.gateway.generation.request import GenerationRequest
from swarm.text.answers.harmony import HarmonyReader, Thought
from swarm.text.answers.reasoning import ReasoningReader
from swarm.text.answers.tool_calls import Call, CallReader, More

LEAST_LOGPROB = -9999.0  # for what is impossible, as OpenAI has it: JSON knows no infinity
TELL_SECONDS = 0.05  # between two events about one answer's tokens


@dataclass(frozen=True, slots=True)
class ToldToken:
    """A token with its probability, where that was asked for."""

    id: int
    piece: bytes  # its own, which may be a part of a character
    logprob: float
    top: tuple[tuple[int, bytes, float], ...]

    @property
    def text(self) -> str:
        return shown_piece(self.piece)


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
    arguments: str  # all of them, or their beginning
    whole: bool = True


@dataclass(frozen=True, slots=True)
class ToldMore:
    """Arguments of the call before go on. A call whose last never comes was cut off."""

    index: int
    arguments: str
    last: bool = False


Delta = ToldText | Thought | ToldCall | ToldMore
Reader = CallReader | HarmonyReader | ReasoningReader


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request, all choices together."""

    prompt: int
    completion: int
    cached: int  # of the prompt, those whose rows were still there


class Choice:
    """One choice: `async for delta in choice`, then `finish_reason`."""

    def __init__(
        self,
        index: int,
        answer: Answer,
        client: Client,
        request: GenerationRequest,
        reader: Reader | None,
        bus: EventBus,
    ) -> None:
        self.index = index
        self.answer = answer
        self.request = request
        self.id = secrets.token_hex(6)  # in the status and its events
        self.began = asyncio.get_running_loop().time()
        self.finish_reason: Literal["stop", "length", "tool_calls"] | None = None
        self._client = client
        self._reader = reader
        self._bus = bus
        self._told_at = float("-inf")  # loop time
        self._recoveries = 0
        self._calls = 0

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self._deltas()

    async def _deltas(self) -> AsyncGenerator[Delta, None]:
        async with aclosing(self._told_calls()) as deltas:
            async for delta in deltas:
                yield delta
                if self.request.single_call and _ends_call(delta):
                    break
        full = self.answer.finish_reason == "length"
        self.finish_reason = "length" if full else "tool_calls" if self._calls else "stop"

    async def _told_calls(self) -> AsyncGenerator[Delta, None]:
        """Calls of some tools are held back until they are whole."""
        begun: ToldCall | None = None
        parts: list[str] = []
        async with aclosing(self._all()) as deltas:
            async for delta in deltas:
                if isinstance(delta, ToldCall) and not delta.whole and delta.name in self.request.told_whole:
                    begun, parts = delta, [delta.arguments]
                elif begun is not None and isinstance(delta, ToldMore):
                    parts.append(delta.arguments)
                    if delta.last:
                        yield replace(begun, arguments="".join(parts), whole=True)
                        begun = None
                else:
                    yield delta
        if begun is not None:
            yield replace(begun, arguments="".join(parts))

    async def _all(self) -> AsyncGenerator[Delta, None]:
        self._bus.publish("session", session=self.id, model=self.request.model, phase="opened")
        try:
            async for token in self.answer:
                self._publish()
                for delta in self._told(token):
                    yield delta
        finally:
            timings = self.answer.timings
            self._bus.publish(
                "session",
                session=self.id,
                model=self.request.model,
                phase="ended",
                prompt_tokens=len(self.answer.prompt_ids),
                cached_tokens=self.answer.cached_tokens,
                tokens=len(self.answer.token_ids),
                first_token_s=timings.first_token,
                decoding_s=timings.decoding,
            )
        cut = self.answer.finish_reason == "length"
        for piece in self._reader.finish(cut) if self._reader else ():
            yield self._delta(piece)

    def _publish(self) -> None:
        """How far it is, now and then; and who was replaced."""
        now = asyncio.get_running_loop().time()
        for recovery in getattr(self.answer.session, "recoveries", ())[self._recoveries :]:
            self._recoveries += 1
            self._bus.publish(
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
            self._bus.publish("token", session=self.id, tokens=len(self.answer.token_ids))

    def _told(self, token: Token) -> list[Delta]:
        tokens: tuple[ToldToken, ...] = ()
        if token.logprob is not None:
            pieces = self._client.text.piece
            top = tuple((number, pieces(number), max(logprob, LEAST_LOGPROB)) for number, logprob in token.top)
            tokens = (ToldToken(token.id, pieces(token.id), max(token.logprob, LEAST_LOGPROB), top),)
        if self._reader is None:
            return [ToldText(token.text, tokens)] if token.text or tokens else []
        deltas = [self._delta(piece) for piece in self._reader.push(token.text)]
        return [ToldText("", tokens), *deltas] if tokens else deltas

    def _delta(self, piece: str | Call | More | Thought) -> Delta:
        if isinstance(piece, str):
            return ToldText(piece)
        if isinstance(piece, Thought):
            return piece
        if isinstance(piece, More):
            return ToldMore(self._calls - 1, piece.arguments, piece.last)
        self._calls += 1
        return ToldCall(self._calls - 1, f"call_{secrets.token_hex(12)}", piece.name, piece.arguments, piece.whole)


def _ends_call(delta: Delta) -> bool:
    return (isinstance(delta, ToldCall) and delta.whole) or (isinstance(delta, ToldMore) and delta.last)


def shown_piece(piece: bytes) -> str:
    """A token's bytes as text, as far as they are any."""
    return piece.decode("utf-8", "replace")


def usage_of(choices: Sequence[Choice]) -> Usage:
    """Of all choices together, so far."""
    answers = [choice.answer for choice in choices]
    return Usage(len(answers[0].prompt_ids), sum(len(answer.token_ids) for answer in answers), answers[0].cached_tokens)
