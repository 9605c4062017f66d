"""The token loop: prompt in chunks of the grid, then one row a token; text is given out as soon as it is safe to.

The loop is the same over a chain and over the whole model in one process: it sees only something with a `step`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from swarm.client.heads import Constraint, Heads, Picked, Wish
from swarm.client.room import Room
from swarm.engine import CHUNK_ROWS
from swarm.errors import NoRoom, PromptTooLong, UsageFault
from swarm.sampling import Sampling
from swarm.text.tokenizer import Text, TextStream
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor

DEFAULT_MAX_TOKENS = 256
MAX_STOPS = 64
MAX_TOP_LOGPROBS = 20
TOLD = (
    "max_tokens",
    "stop",
    "stop_ids",
    "ignore_eos",
    "choice",
    "top_logprobs",
    "constrain",
)  # fields of `Options.told`


@dataclass(frozen=True, slots=True)
class Options:
    """How one answer is generated."""

    max_tokens: int | None = DEFAULT_MAX_TOKENS  # None: to the end of the model's context
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()  # texts that end the answer and are not part of it
    stop_ids: tuple[tuple[int, ...], ...] = ()  # sequences of token ids that do
    ignore_eos: bool = False
    turn: bool = False  # of a chat: it ends with any token that any of the model's files names as an end
    choice: int = 0  # counts the answers to one prompt, so that each has its own draws from one seed
    top_logprobs: int | None = None  # so many of the likeliest tokens are told with each; None: no probabilities at all
    shown: tuple[str, ...] = ()  # special tokens that are part of the text, such as the marks of a call
    constrain: Callable[[], Constraint] | None = None  # makes what the answer is held to, anew for each answer

    @classmethod
    def told(cls, given: Mapping[str, Any]) -> Options:
        """Of keywords: some of these fields, and whatever `Sampling` has. Raises UsageFault."""
        own = {name: value for name, value in given.items() if name in TOLD}
        return cls(sampling=Sampling(**{name: value for name, value in given.items() if name not in TOLD}), **own)

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageFault(f"max_tokens is {self.max_tokens}: at least 1 is needed")
        if len(self.stop) + len(self.stop_ids) > MAX_STOPS:
            raise UsageFault(f"{len(self.stop) + len(self.stop_ids)} stops: at most {MAX_STOPS} are taken")
        if not all(self.stop) or not all(self.stop_ids):
            raise UsageFault("an empty stop would end every answer at once")
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS:
            raise UsageFault(f"top_logprobs is {self.top_logprobs}: 0 to {MAX_TOP_LOGPROBS} are told")


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token. The texts of an answer's tokens join to its text."""

    id: int
    text: str  # what became safe to show with this token; may be empty, or hold earlier tokens' text
    index: int  # counted from 0
    logprob: float | None = None  # natural logarithm of its probability, if it was asked for
    top: tuple[tuple[int, float], ...] = ()  # the likeliest ids with theirs


@dataclass(slots=True)
class Timings:
    """Seconds, measured at the client."""

    opening: float = 0.0  # until the chain was open
    first_token: float = 0.0  # from then to the first token
    decoding: float = 0.0  # from the first token to the last
    longest_gap: float = 0.0  # between two tokens

    def tokens_per_second(self, count: int) -> float | None:
        """Of the tokens after the first."""
        return (count - 1) / self.decoding if count > 1 and self.decoding > 0 else None


class Session(Protocol):
    """What the loop needs of a session."""

    position: int  # rows that it holds: of a new one, the first of its prompt

    async def step(self, rows: Rows, tensor: Tensor) -> Tensor: ...

    async def prompt(self, tensors: AsyncIterator[Tensor]) -> Tensor: ...


class Answer:
    """An answer as it comes: `async for token in answer`, then `text`, `token_ids`, `finish_reason`, `timings`."""

    def __init__(
        self,
        ids: Sequence[int],
        options: Options,
        text: Text,
        context: int,
        open_session: Callable[[Room], AbstractAsyncContextManager[tuple[Session, Heads]]],
    ) -> None:
        self.prompt_ids = tuple(ids)
        self.options = options
        self.token_ids: list[int] = []
        self.text = ""
        self.finish_reason: str | None = None  # "stop" or "length"; None for one that was closed before its end
        self.out_of_room = False  # it ended by its length because no chain holds more of it
        self.stop_text: str | None = None  # which of `stop` ended it
        self.timings = Timings()
        self.cached_tokens = 0  # of the prompt, those whose rows were still there and were not computed anew
        self.session: Session | None = None  # the session in use; kept afterwards for its chain and recoveries
        self._text = text
        self._open_session = open_session
        self._max_rows = rows_needed(len(self.prompt_ids), options.max_tokens, context)
        self._tokens = self._run()
        self._reader: asyncio.Task[object] | None = None  # who waits for the next token
        self._read = asyncio.Event()  # nobody does any more
        self._closing = False
        self.ended = asyncio.Event()  # the session, if there was one, has been left

    def __aiter__(self) -> AsyncIterator[Token]:
        return self

    async def __anext__(self) -> Token:
        if self._reader is not None:
            raise UsageFault("an answer is read by one task at a time")
        reader = self._reader = asyncio.current_task()
        assert reader is not None
        self._read.clear()
        try:
            return await anext(self._tokens)
        except asyncio.CancelledError:
            if self._closing and reader.uncancel() == 0:
                raise StopAsyncIteration from None  # `aclose` cancelled it, and nobody else did
            raise
        finally:
            self._reader = None
            self._read.set()

    async def aclose(self) -> None:
        """Stop generating and free the session. Harmless at any time; whoever reads the answer then sees its end."""
        if self._reader is not None and self._reader is not asyncio.current_task():
            if not self._closing:
                self._reader.cancel()
            self._closing = True
            await self._read.wait()
        await self._tokens.aclose()

    @property
    def context_full(self) -> bool:
        """Whether the answer ended because the model's context did, before max_tokens."""
        wanted = self.options.max_tokens
        return (
            self.finish_reason == "length" and not self.out_of_room and (wanted is None or len(self.token_ids) < wanted)
        )

    async def read(self) -> str:
        """The whole text at once."""
        async for _ in self:
            pass
        return self.text

    async def _run(self) -> AsyncGenerator[Token, None]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        stream = TextStream(self._text, self.options.stop, self.options.stop_ids, self.prompt_ids, self.options.shown)
        async with AsyncExitStack() as stack:
            stack.callback(self.ended.set)
            session, heads = await stack.enter_async_context(
                self._open_session(Room(len(self.prompt_ids) + 1, self._max_rows))
            )
            self.session = session
            opened = loop.time()
            self.timings.opening = opened - began
            self.cached_tokens = session.position
            seen = list(self.prompt_ids)
            wish = self._wish(len(seen))
            row = await take_prompt(session, heads, self.prompt_ids)
            last = opened
            while self.finish_reason is None:
                picked = await heads.pick(row, wish, seen)
                seen.append(picked.id)
                self._clock(opened, last, last := loop.time())
                yield self._emit(picked, stream)
                if self.finish_reason is None:
                    try:
                        row = await session.step(Rows.DECODE, picked.embedded)
                    except NoRoom:
                        if rest := self._end_early(stream):
                            yield rest

    def _end_early(self, stream: TextStream) -> Token | None:
        """No chain holds another row: the answer ends with the tokens that it has, and with what of their text was held back."""
        self.finish_reason, self.out_of_room = "length", True
        rest = stream.finish()
        self.text += rest
        return Token(self.token_ids[-1], rest, len(self.token_ids) - 1) if rest else None

    def _wish(self, answer_start: int) -> Wish:
        options = self.options
        constraint = options.constrain() if options.constrain else None
        return Wish(options.sampling, answer_start, options.choice, options.top_logprobs, constraint)

    def _emit(self, picked: Picked, stream: TextStream) -> Token:
        """Account for a new token and decide whether it is the last."""
        token = picked.id
        ends = self._text.turn_ends if self.options.turn else self._text.eos_ids
        ended = token in ends and not self.options.ignore_eos
        self.token_ids.append(token)
        ready = "" if ended else stream.push(token)
        if ended or stream.stopped or picked.last:
            self.finish_reason = "stop"
            self.stop_text = stream.stop_text
        elif len(self.prompt_ids) + len(self.token_ids) >= self._max_rows:
            self.finish_reason = "length"
        if self.finish_reason:
            ready += stream.finish()
        self.text += ready
        return Token(token, ready, len(self.token_ids) - 1, picked.logprob, picked.top)

    def _clock(self, opened: float, last: float, now: float) -> None:
        if self.token_ids:
            self.timings.decoding += now - last
            self.timings.longest_gap = max(self.timings.longest_gap, now - last)
        else:
            self.timings.first_token = now - opened


async def take_prompt(session: Session, heads: Heads, ids: Sequence[int]) -> Tensor:
    """Take a prompt through the chain, in chunks of the grid; returns the last row [1, hidden].

    The session may hold its first chunks, but not all of it.
    """

    async def chunks() -> AsyncIterator[Tensor]:
        for start in range(session.position, len(ids), CHUNK_ROWS):
            yield await heads.embed(ids[start : start + CHUNK_ROWS], start)

    rows = await session.prompt(chunks())
    count, hidden = rows.shape
    size = len(rows.data) // count
    return Tensor(rows.dtype, (1, hidden), rows.data[(count - 1) * size :])


def rows_needed(prompt: int, max_tokens: int | None, context: int) -> int:
    """Rows that the session may come to hold. Raises UsageFault for a prompt that leaves no room for an answer."""
    if not prompt:
        raise UsageFault("the prompt is empty: there is nothing to go on from")
    if prompt >= context:
        message = f"the prompt has {prompt} tokens; the model's context is {context}, answer included"
        raise PromptTooLong(message, prompt, context)
    return min(context, prompt + max_tokens) if max_tokens is not None else context
