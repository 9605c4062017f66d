"""Requests to a swarm, and what became of each. The unsplit model in this process says which tokens must come out."""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections.abc import Callable, MutableSequence, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

from chaos.scenarios import PROMPT_ROWS, TOKENS, Case
from swarm import Client
from swarm.client import Options
from swarm.errors import SwarmError
from swarm.sampling import Sampling

PROMPTS = 3  # different ones, each greedy and sampled
FIRST_ID = 4  # ids before it are special in the models that come along
GRACE_SECONDS = 60.0  # beyond the client's own deadline, which begins anew with every step forward


@dataclass(slots=True)
class Request:
    """One answer, as its reader saw it. Times are of the monotonic clock."""

    case: str
    variant: int  # of prompt and sampling
    expected: tuple[int, ...]
    began: float
    ids: Sequence[int] = field(default_factory=list)
    indexes: Sequence[int] = field(default_factory=list)
    times: MutableSequence[float] = field(default_factory=lambda: array("d"))
    ended: float | None = None
    error: str | None = None
    hung: bool = False
    exact: bool = True  # as the session says: one numerics class throughout
    replayed: int = 0  # rows
    recoveries: int = 0

    def settle(self) -> None:
        """It ended. A right answer is not kept twice: thousands of them would pass for growing memory."""
        if self.right:
            self.ids, self.indexes = self.expected, range(len(self.expected))

    @property
    def right(self) -> bool:
        return self.error is None and tuple(self.ids) == self.expected and [*self.indexes] == [*range(len(self.ids))]

    @property
    def wrong_tokens(self) -> bool:
        """Whether any token that came is another than the unsplit model's."""
        return tuple(self.ids) != self.expected[: len(self.ids)]

    @property
    def gaps(self) -> list[float]:
        """Seconds between two tokens."""
        return [after - before for before, after in pairwise(self.times)]


class Questions:
    """Prompts and samplings drawn from a seed, and the unsplit model's answers to them."""

    def __init__(self, model: Path, precision: str, seed: int, numerics: str = "auto") -> None:
        self._model, self._precision, self._numerics = model, precision, numerics
        vocabulary = int(json.loads((model / "config.json").read_text())["vocab_size"])
        dice = Random(seed)
        self.prompts = [[dice.randrange(FIRST_ID, vocabulary) for _ in range(PROMPT_ROWS)] for _ in range(PROMPTS)]
        self.answers: list[tuple[int, ...]] = []

    def ask(self, variant: int) -> tuple[list[int], Options]:
        prompt, sampled = self.prompts[variant % PROMPTS], variant % 2
        sampling = Sampling(temperature=1.0, top_k=50, seed=variant) if sampled else Sampling()
        return prompt, Options(max_tokens=TOKENS, sampling=sampling, ignore_eos=True)

    async def compute(self) -> None:
        precision, numerics = self._precision, self._numerics
        async with Client(self._model, local=True, precision=precision, numerics=numerics) as client:
            for variant in range(2 * PROMPTS):
                prompt, options = self.ask(variant)
                answer = client.generate(prompt, options=options)
                await answer.read()
                self.answers.append(tuple(answer.token_ids))


class Load:
    """A case's requests: `sessions` at a time, as long as `more()` says so."""

    def __init__(self, questions: Questions, requests: list[Request]) -> None:
        self._questions = questions
        self.requests = requests  # all of the run, also those under way
        self.running = 0
        self.tokens = 0

    async def run(self, case: Case, client: Client, more: Callable[[int], bool]) -> None:
        """`more` is told how many were begun."""
        begun = 0

        async def keep_asking() -> None:
            nonlocal begun
            while more(begun):
                begun += 1
                await self._one(case, client, len(self.requests))

        async with asyncio.TaskGroup() as group:
            for _ in range(case.sessions):
                group.create_task(keep_asking())

    async def _one(self, case: Case, client: Client, number: int) -> None:
        variant = number % (2 * PROMPTS)
        prompt, options = self._questions.ask(variant)
        request = Request(case.name, variant, self._questions.answers[variant], time.monotonic())
        self.requests.append(request)
        self.running += 1
        answer = client.generate(prompt, options=options)
        ids, indexes = request.ids, request.indexes = [], []
        try:
            async with asyncio.timeout(case.deadline + GRACE_SECONDS):
                async for token in answer:
                    request.times.append(time.monotonic())
                    ids.append(token.id)
                    indexes.append(token.index)
                    self.tokens += 1
        except SwarmError as error:
            request.error = f"{type(error).__name__}: {error}"
        except TimeoutError:
            request.hung, request.error = True, "it did not end"
        finally:
            self.running -= 1
            await answer.aclose()
            request.ended = time.monotonic()
            recoveries = getattr(answer.session, "recoveries", [])
            request.recoveries = len(recoveries)
            request.replayed = sum(recovery.position for recovery in recoveries)
            request.exact = getattr(answer.session, "exact", True)
            request.settle()
