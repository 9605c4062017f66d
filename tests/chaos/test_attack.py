"""What attackers send is refused in words, costs nobody else anything, and their process says what it met with."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clock import run_virtual
from support.links import CLIENT, LOAD, WORKER, echo, forward, local
from support.models import make_model
from support.swarm import LocalSwarm

from chaos.attacks import hostile
from chaos.attacks.attack import ATTACKS
from chaos.runner.attackers import Attack
from chaos.runner.conductor import Clocked
from chaos.runner.invariants import breaches, slowed
from chaos.runner.load import Request
from chaos.runner.report import figures, markdown
from chaos.runner.run import CaseResult, Outcome, Setup
from chaos.scenarios import SCENARIOS, Case, Limits, Scenario
from swarm.client import Client, Options
from swarm.config import ChannelConfig
from swarm.errors import ProtocolFault
from swarm.identity import Identity
from swarm.span import LayerSpan
from swarm.trace import Trace
from swarm.transport.channels.dial import dial
from swarm.transport.channels.server import ChannelServer
from swarm.transport.tls.network import TlsNetwork
from swarm.wire import packing
from swarm.wire.connection import Connection, Role
from swarm.wire.events import Answered
from swarm.wire.messages import Fault, FaultCode, Message, Open

ROOT = Path(__file__).parents[2]
HIDDEN = 64
NAME = bytes(range(1, 17))
PROMPT, OPTIONS = list(range(4, 24)), Options(max_tokens=6, ignore_eos=True)
GROWTH_BYTES = 8 << 20  # of all that Python holds, while one payload is refused


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), hidden_size=HIDDEN, tokenizer=True)


class Raw:
    """The receiving end of a stream: what was answered, and whether the worker hung up."""

    def __init__(self) -> None:
        self.wire = Connection(Role.DIALLER, "raw", 1024)
        self.faults: list[Fault] = []
        self.lost: str | None = None

    def data_received(self, data: memoryview) -> None:
        for event in self.wire.receive_data(data):
            if isinstance(event, Answered) and isinstance(event.message, Fault):
                self.faults.append(event.message)

    def writing_resumed(self) -> None:
        pass

    def connection_lost(self, reason: str) -> None:
        self.lost = reason


async def send(swarm: LocalSwarm, payload: bytes, number: int) -> Raw:
    """By a peer that has a session open, under NAME."""
    node = swarm.hub.node(Identity.from_seed(number.to_bytes(32, "big")).peer_id)
    stream = await node.connect(swarm.workers[0].address, swarm.workers[0].peer_id)
    raw = Raw()
    stream.start(raw)
    opening = Open(NAME, swarm.model.digest, LayerSpan(0, 4), "fp32", 200)
    messages = raw.wire.hello() + raw.wire.send(raw.wire.new_stream(), opening)
    stream.write([part for frame in messages for part in frame])
    await asyncio.sleep(0.1)
    raw.wire._our_requests[1] = asked(payload)  # so that a Fault for it is an answer
    stream.write([payload])
    await asyncio.sleep(1)
    stream.abort()
    await asyncio.sleep(5)  # its session lapses with it
    return raw


def asked(payload: bytes) -> type[Message]:
    """What the payload's header says that it is."""
    try:
        return packing.message_type_of(payload[4])
    except ProtocolFault:
        return Open


async def answer(client: Client) -> list[int]:
    return [token.id async for token in client.generate(PROMPT, options=OPTIONS)]


PAYLOADS = {
    "lengths": lambda: hostile.lengths(),
    "lies": lambda: hostile.lies(NAME, HIDDEN, "fp32"),
    "nesting": lambda: hostile.nesting(),
}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_what_is_malformed_is_refused_and_nobody_else_notices(
    model: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    payloads: Iterator[bytes] = PAYLOADS[kind]()

    async def main() -> None:
        async with LocalSwarm(model, [(0, 4)]) as swarm, swarm.client() as client:
            calm = await answer(client)
            running = client.generate(PROMPT, options=OPTIONS)
            heard = [(await anext(running)).id]
            tracemalloc.start()
            for number, payload in enumerate(payloads, 1000):
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                raw = await send(swarm, payload, number)
                assert tracemalloc.get_traced_memory()[1] - before < GROWTH_BYTES, payload[:64]
                assert all(fault.code is not FaultCode.INTERNAL for fault in raw.faults), (raw.faults, payload[:64])
            tracemalloc.stop()
            heard += [token.id async for token in running]
            assert heard == calm == await answer(client)
            assert running.session.recoveries == []  # type: ignore[union-attr]

    with caplog.at_level(logging.ERROR):
        run_virtual(main())
    assert not caplog.records


@pytest.mark.parametrize("kind", ["half-open", "lengths"])
def test_an_attack_by_a_process(kind: str) -> None:
    async def main() -> None:
        config = ChannelConfig(max_handshakes=64)
        network = TlsNetwork(WORKER, config=config)
        async with ChannelServer(network, "127.0.0.1", 0, echo, config, Trace()) as server:
            told = {"kind": kind, "targets": [["127.0.0.1", server.port, 0, 4]], "digest": "00", "precision": "bf16"}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "chaos.attacks.attack", json.dumps(told | {"hidden": 64, "context_rows": 64})),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            assert await process.stdout.readline() == b"attacking\n"
            channel = await dial(TlsNetwork(CLIENT), [local(server.port)], WORKER.peer_id, config)
            assert (await channel.request(forward())).load == LOAD  # type: ignore[union-attr]
            await channel.aclose()
            process.stdin.close()
            met = json.loads(await process.stdout.readline())
            await process.wait()
            assert met["opened" if kind == "half-open" else "refused"] > 0

    asyncio.run(asyncio.wait_for(main(), 60))


def attacked(gap: float, grown: int) -> Outcome:
    """A request whose tokens come every 20 ms, or after `gap` while the attackers act."""
    attack = Attack("drip", Path("model"), "bf16", ())
    attack.met, attack.grown = {"cut off": 3}, {"worker-0a": grown}
    attack._turns = [(100.0 + turn, turn % 2 == 0) for turn in range(10)]
    times = []
    for start, acting in attack._turns:
        step = gap if acting else 0.02
        times += [start + step * number for number in range(1, int(1 / step))]
    ids = tuple(range(len(times)))
    request = Request("a case", 0, ids, began=100.0, ids=[*ids], indexes=[*ids], times=times, ended=times[-1])
    case = Case("a case", (), attack="drip")
    scenario = Scenario(0, "imagined", "Imagined", (case,), limits=Limits(grown=64 << 20, gap_share=1.2))
    made = Outcome(scenario, Setup(Path("model"), 24))
    made.cases.append(CaseResult(case, [request], Clocked(), seconds=10.0, attack=attack))
    return made


def test_gaps_are_compared_with_those_while_the_attackers_hold_still() -> None:
    assert breaches(attacked(0.022, 5 << 20), {}) == []
    slow, big = breaches(attacked(0.03, 70 << 20), {})[::-1]
    assert "p95 of gaps 30.0 ms, without an attack 20.0 ms" in str(slow)
    assert "worker-0a grew by 70 MiB" in str(big)


def test_a_machine_that_is_busy_by_itself_is_not_taken_for_an_attack() -> None:
    quiet, busy = [0.02] * 40, [0.02] * 30 + [0.2] * 10
    turns = [(number % 2 == 0, busy if number in (2, 3, 6) else quiet) for number in range(16)]
    assert not slowed(turns, 1.2)
    assert slowed([(acting, busy if acting else quiet) for acting, _ in turns], 1.2)
    assert not slowed([], 1.2)


def test_a_report_says_what_attackers_met_with() -> None:
    page = markdown([figures(attacked(0.022, 5 << 20), [])])
    assert "attack drip: 3 cut off; a worker grew by 5 MiB at most; gap p95 22.0 ms" in page
    assert "while the attackers held still 20.0 ms" in page


def test_every_attack_of_a_scenario_is_there() -> None:
    wanted = {case.attack for scenario in SCENARIOS for case in scenario.cases if case.attack is not None}
    assert wanted == ATTACKS.keys()
