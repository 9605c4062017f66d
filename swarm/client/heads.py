"""Embedding, head and sampler for all sessions of a client, on one compute thread.

Rows of several sessions that wait at the same moment are taken through the head together: one head costs about what sixteen
cost, and a row's bits do not depend on its company. Knows nothing of chains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from swarm.engine.backends import Head
from swarm.engine.coalescing import Coalescing
from swarm.engine.pooling import Pooling
from swarm.engine.promise import Promise
from swarm.engine.row_tensors import join_rows
from swarm.engine.sampler import log_probabilities, sample
from swarm.errors import SwarmError
from swarm.sampling import Sampling
from swarm.wire.tensors import Tensor

MAX_TOGETHER = 64  # rows of one call of the head

T = TypeVar("T")


class Compute(Protocol):
    """Runs a function where tensors are computed."""

    async def run(self, function: Callable[[], T]) -> T: ...


class Constraint(Protocol):
    """What the next token may be, such as a grammar's. Asked and told on the compute thread, by one session."""

    def allowed(self) -> NDArray[np.bool_]:
        """[vocab]: which ids may come next."""

    def accept(self, token: int) -> None:
        """This one came."""

    @property
    def complete(self) -> bool:
        """Whether nothing can follow."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How one session draws its tokens, throughout."""

    sampling: Sampling
    answer_start: int  # the answer's first position
    choice: int = 0  # counts the answers to one prompt
    top_logprobs: int | None = None  # None: no logarithms of probabilities are wanted
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True)
class Picked:
    """A token drawn."""

    id: int
    embedded: Tensor  # [1, hidden]
    logprob: float | None = None  # where they are wanted, with the likeliest ids and theirs
    top: tuple[tuple[int, float], ...] = ()
    last: bool = False  # nothing may follow it


@dataclass(slots=True, eq=False)
class Pick:
    """One session's request: the row that the next token is drawn from."""

    row: Tensor  # [1, hidden]
    wish: Wish
    seen: Sequence[int]  # ids before the new one: prompt and answer; the same object throughout a session
    done: Promise[Picked]


class Heads:
    """`embed` ids, `pick` next tokens. Nothing to start or stop: calls are made as requests come."""

    def __init__(self, head: Head, compute: Compute) -> None:
        self.head = head
        self._compute = compute
        self._picks: list[Pick] = []
        self._gathering = Coalescing()  # members are the ids of what sessions have seen
        self._running: asyncio.Task[None] | None = None

    async def embed(self, ids: Sequence[int], start: int) -> Tensor:
        """[len(ids), hidden] of tokens at the positions from `start`."""
        return await self._compute.run(lambda: self.head.tensor(self.head.embed(ids, start)))

    async def vector(self, outputs: Sequence[Tensor], pooling: Pooling) -> list[float]:
        """What a model makes of the rows of a text, as the last hop gave them."""

        def call() -> list[float]:
            features = [self.head.features(self.head.rows(rows)) for rows in outputs]
            found: list[float] = pooling.compute(join_rows(features)).tolist()
            return found

        return await self._compute.run(call)

    async def pick(self, row: Tensor, wish: Wish, seen: Sequence[int]) -> Picked:
        """The token that follows `seen`, drawn from a last hop's row."""
        pick = Pick(row, wish, seen, Promise())
        self._picks.append(pick)
        self._gathering.arrived()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="heads")
        return await pick.done.wait()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._picks:
            await self._gathering.company(lambda: {id(pick.seen) for pick in self._picks})
            began = loop.time()
            batch, self._picks = self._picks[:MAX_TOGETHER], self._picks[MAX_TOGETHER:]
            self._tell(batch, await self._answers(batch))
            self._gathering.took({id(pick.seen) for pick in batch}, loop.time() - began)

    async def _answers(self, batch: list[Pick]) -> list[Picked | Exception]:
        try:
            return await self._compute.run(lambda: self._call(batch))
        except Exception as error:  # an engine bug must reach each waiting session instead of leaving it waiting
            return [error] * len(batch)

    def _tell(self, batch: list[Pick], answers: list[Picked | Exception]) -> None:
        for pick, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                pick.done.fail(answer)
            else:
                pick.done.fulfil(answer)

    def _call(self, batch: list[Pick]) -> list[Picked | Exception]:
        """On the compute thread. What is wrong with one session's row is that session's error."""
        logits = self.head.logits(join_rows([self.head.rows(pick.row) for pick in batch]))
        answers: list[Picked | Exception] = []
        for row, pick in zip(logits, batch, strict=True):
            try:
                answers.append(self._draw(row, pick))
            except SwarmError as error:
                answers.append(error)
        return answers

    def _draw(self, logits: torch.Tensor, pick: Pick) -> Picked:
        wish = pick.wish
        token = sample(
            logits,
            wish.sampling,
            pick.seen,
            len(pick.seen),
            wish.choice,
            answer_start=wish.answer_start,
            allowed=wish.constraint.allowed() if wish.constraint else None,
        )
        if wish.constraint:
            wish.constraint.accept(token)
        embedded = self.head.tensor(self.head.embed([token], len(pick.seen)))
        last = wish.constraint is not None and wish.constraint.complete
        if wish.top_logprobs is None:
            return Picked(token, embedded, last=last)
        return Picked(token, embedded, *log_probabilities(logits, token, wish.top_logprobs), last=last)
