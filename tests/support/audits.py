"""Sessions whose workers lie, what was traced of their audits, and draws that a test knows beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from copy import copy
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from support.clock import run_virtual
from support.swarm import LocalSwarm, LocalWorker

from chaos.liars import Lie, Moment, always, lie
from swarm.client import Client
from swarm.client.audits.proof import Proof
from swarm.client.generate import Answer, Options
from swarm.config import ClientConfig
from swarm.identity import PeerId
from swarm.trace import Event, Trace

T = TypeVar("T")
PROMPT = [(7 * index) % 250 for index in range(140)]
OPTIONS = Options(max_tokens=40, ignore_eos=True)
MIDDLE = len(PROMPT) + 4
CONFIG = ClientConfig(audit_share=1.0, audit_private=True)


class First(Random):
    """Draws what stands first: of workers the one with the lowest id."""

    def random(self) -> float:
        return 0.0

    def choice(self, seq: Sequence[T]) -> T:  # type: ignore[override]
        return seq[0]


class Seen:
    """What was traced of audits."""

    def __init__(self) -> None:
        self.verdicts: list[str] = []
        self.events: list[Event] = []
        self.banned: list[str] = []

    def __call__(self, event: Event) -> None:
        if event.name == "audit":
            self.events.append(event)
            if "verdict" in event.details:
                self.verdicts.append(event.details["verdict"])
        if (event.name, event.phase) == ("peers.ban", "complete"):
            self.banned.append(event.details["peer"])


def by_id(swarm: LocalSwarm) -> list[LocalWorker]:
    return sorted(swarm.workers, key=lambda worker: worker.peer_id)


def turn(worker: LocalWorker, kind: Lie, seed: int = 0, moment: Moment = always) -> None:
    """From now on the worker lies."""
    stage = worker.service.stage
    liar = lie(copy(stage), kind, seed, moment)
    stage.chunk, stage.decode = liar.chunk, liar.decode  # type: ignore[method-assign]


def reclass(worker: LocalWorker, name: str = "fp32/other") -> None:
    worker.service.stage.numerics = name
    worker.announce(numerics=name)


async def ask(client: Client) -> Answer:
    answer = client.generate(PROMPT, options=OPTIONS)
    await answer.read()
    return answer


async def audited(swarm: LocalSwarm, bans: Path | None = None) -> Seen:
    """One answer, and what its audit found."""
    seen = Seen()
    async with swarm.client(Trace(seen), random=First(), bans=bans) as client:
        await ask(client)
        await client.auditor.idle()
        await swarm.freed(1)
    return seen


def proof_of(bans: Path, peer_id: PeerId) -> Proof:
    return Proof.parse(json.loads((bans.parent / "proofs" / f"{peer_id}.json").read_text()))


def play(
    model: Path,
    spans: Sequence[tuple[int, int]],
    act: Callable[[LocalSwarm], Coroutine[Any, Any, None]],
    config: ClientConfig = CONFIG,
    precision: str = "fp32",
) -> None:
    async def main() -> None:
        async with LocalSwarm(model, spans, client_config=config, precision=precision) as swarm:
            await act(swarm)

    run_virtual(main())


def kill_at(swarm: LocalSwarm, position: int, then: Callable[[LocalWorker], None]) -> Callable[[Event], None]:
    """A listener that kills the worker to which rows of `position` are about to go, once."""
    done: list[str] = []

    def listen(event: Event) -> None:
        if (event.name, event.phase, event.details.get("position")) == (
            "hop.forward",
            "started",
            position,
        ) and not done:
            done.append(event.details["peer"])
            victim = swarm.worker(event.details["peer"])
            then(victim)
            victim.kill()

    return listen
