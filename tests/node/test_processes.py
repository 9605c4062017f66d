"""Real processes on loopback, really killed and really stopped: the same tokens, noticed in time."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from support.processes import SwarmProcess, close_all

from swarm import Client, Node
from swarm.client import Options
from swarm.client.client import SHIPPED
from swarm.client.failover.recoveries import Recovery
from swarm.config import AskConfig, NodeConfig
from swarm.identity import Identity
from swarm.sampling import Sampling
from swarm.trace import Event, Trace

SPANS = ("0-11", "12-23")
REPLICAS = 3
PROMPT = [300 + (7 * index) % 1000 for index in range(150)]  # two chunks of the grid
TOKENS = 12
SAMPLINGS = {"greedy": Sampling(), "sampled": Sampling(temperature=1.0, top_k=50, seed=5)}
FIRST, MIDDLE, LAST = len(PROMPT), len(PROMPT) + 5, len(PROMPT) + TOKENS - 2  # positions of decode steps
NOTICED_DEATH, NOTICED_STALL = 1.0, 5.0  # seconds, as docs/DESIGN.md promises


@dataclass
class Farm:
    """A bootstrap and REPLICAS workers of each span, for one death: whoever joins later would ask the dead, and wait."""

    folder: Path
    bootstrap: SwarmProcess
    precision: str
    workers: list[SwarmProcess] = field(default_factory=list)

    def start(self) -> None:
        self.bootstrap.ready()
        self.workers += [self._start(span) for span in SPANS * REPLICAS]
        for worker in self.workers:
            worker.ready()

    def find(self, short: str) -> SwarmProcess:
        return next(worker for worker in self.workers if worker.peer.startswith(short))

    def _start(self, span: str) -> SwarmProcess:
        options = ("--model", "demo", "--layers", span, "--threads", "1", "--precision", self.precision)
        return SwarmProcess.server("worker", self.folder, *options, "--bootstrap", self.bootstrap.address)

    @property
    def place(self) -> tuple[str, int]:
        host, port = self.bootstrap.address.rsplit(":", 1)
        return host, int(port)


@pytest.fixture(params=["bf16", "fp32"])
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Farm]:
    bootstrap = SwarmProcess.server("bootstrap", tmp_path)
    made = Farm(tmp_path, bootstrap, request.param)
    try:
        made.start()
        yield made
    finally:
        close_all([bootstrap, *made.workers])


@cache
def unsplit(precision: str, sampling: str) -> list[int]:
    async def main() -> list[int]:
        async with Client("demo", local=True, precision=precision) as client:
            answer = client.generate(PROMPT, options=options(sampling))
            await answer.read()
            return answer.token_ids

    return asyncio.run(main())


def options(sampling: str) -> Options:
    return Options(max_tokens=TOKENS, sampling=SAMPLINGS[sampling], ignore_eos=True)


class Striker:
    """Sends signals at moments that the client's trace tells, and clocks how soon the client notices."""

    def __init__(self, farm: Farm, decide: Callable[[Striker, Event], None]) -> None:
        self.farm = farm
        self.struck: list[str] = []
        self.chain: dict[str, str] = {}  # span -> the peer that serves it
        self.replaying = False
        self.noticed: float | None = None  # seconds from the first signal
        self.recoveries: list[Recovery] = []
        self._struck_at = 0.0
        self._decide = decide

    def __call__(self, event: Event) -> None:
        if event.name == "session.failover":
            self.replaying = event.phase == "started"
            if self.replaying and self.noticed is None and self.struck:
                self.noticed = time.monotonic() - self._struck_at
        if event.name == "hop.forward" and event.phase == "started":
            peer = event.details["peer"]
            self.chain[self.span_of(peer)] = peer
            self._decide(self, event)

    def span_of(self, peer: str) -> str:
        return next(span for span in SPANS if span in self.farm.find(peer).arguments)

    def strike(self, peer: str, number: int = signal.SIGKILL) -> None:
        process = self.farm.find(peer).process
        os.kill(process.pid, number)
        if number == signal.SIGKILL:
            process.wait()
        self._struck_at = self._struck_at or time.monotonic()
        self.struck.append(peer)


def kill_at(position: int, span: str = SPANS[1]) -> Callable[[Striker, Event], None]:
    def decide(striker: Striker, event: Event) -> None:
        peer = event.details["peer"]
        if not striker.struck and event.details["position"] == position and striker.span_of(peer) == span:
            striker.strike(peer)

    return decide


def kill_the_replacement_too(striker: Striker, event: Event) -> None:
    peer = event.details["peer"]
    wanted = 128 if striker.replaying else MIDDLE
    if len(striker.struck) < 2 and event.details["position"] == wanted and striker.span_of(peer) == SPANS[0]:
        striker.strike(peer)


def kill_two_at_once(striker: Striker, event: Event) -> None:
    if not striker.struck and event.details["position"] == MIDDLE:
        for peer in list(striker.chain.values()):
            striker.strike(peer)


DEATHS: dict[str, tuple[Callable[[Striker, Event], None], int]] = {
    "before the first chunk": (kill_at(0, SPANS[0]), 1),
    "mid-prompt": (kill_at(128), 1),
    "first decode step": (kill_at(FIRST), 1),
    "middle": (kill_at(MIDDLE, SPANS[0]), 1),
    "last decode step": (kill_at(LAST), 1),
    "the replacement too, during its replay": (kill_the_replacement_too, 2),
    "two workers at once": (kill_two_at_once, 2),
}


async def generate(farm: Farm, striker: Striker, sampling: str) -> list[int]:
    config = NodeConfig(host="127.0.0.1", bootstrap=(farm.place,))
    ask = AskConfig(SHIPPED["demo"], precision=farm.precision)
    async with Node(config, Identity.generate(), ask=ask, trace=Trace(striker)) as node:
        answer = node.client.generate(PROMPT, options=options(sampling))
        tokens = [token async for token in answer]
        assert [token.index for token in tokens] == list(range(TOKENS))
        assert answer.session is not None
        assert answer.session.exact
        assert len(answer.session.recoveries) >= 1
        striker.recoveries = answer.session.recoveries
    return [token.id for token in tokens]


@pytest.mark.parametrize("death", DEATHS)
def test_the_death_of_a_process(farm: Farm, death: str, capsys: pytest.CaptureFixture[str]) -> None:
    sampling = list(SAMPLINGS)[list(DEATHS).index(death) % 2]
    expected = unsplit(farm.precision, sampling)
    decide, kills = DEATHS[death]
    striker = Striker(farm, decide)
    ids = asyncio.run(asyncio.wait_for(generate(farm, striker, sampling), 60))
    assert ids == expected
    assert len(striker.struck) == kills
    assert striker.noticed is not None
    report(capsys, farm, death, striker)
    assert striker.noticed <= NOTICED_DEATH


def test_a_stalled_process(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGSTOP in the middle; SIGCONT as soon as the client has noticed, so that the late reply comes while it goes on."""

    def decide(striker: Striker, event: Event) -> None:
        if not striker.struck and event.details["position"] == MIDDLE:
            striker.strike(event.details["peer"], signal.SIGSTOP)
        elif striker.noticed is not None and len(striker.struck) == 1:
            striker.strike(striker.struck[0], signal.SIGCONT)

    expected = unsplit(farm.precision, "greedy")
    striker = Striker(farm, decide)
    ids = asyncio.run(asyncio.wait_for(generate(farm, striker, "greedy"), 60))
    assert ids == expected
    assert len(striker.struck) == 2
    assert striker.noticed is not None
    report(capsys, farm, "SIGSTOP, then SIGCONT", striker)
    assert striker.noticed <= NOTICED_STALL


def report(capsys: pytest.CaptureFixture[str], farm: Farm, what: str, striker: Striker) -> None:
    seconds = ", ".join(f"{recovery.seconds:.2f}" for recovery in striker.recoveries)
    with capsys.disabled():
        print(f"\n  {farm.precision}, {what}: noticed after {striker.noticed:.2f} s, recovered in {seconds} s")
