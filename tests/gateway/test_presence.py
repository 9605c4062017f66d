"""Which workers and models the gateway tells of: not the dead, and nothing that cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.clock import run_virtual
from support.models import make_model
from support.records import NOW, make_record

from swarm.client import Client
from swarm.errors import ModelFault
from swarm.gateway import catalog as module
from swarm.gateway.catalog import Catalog
from swarm.records import Address, PeerState, SignedRecord
from swarm.trace import Event, Trace


class Workers:
    """A directory of so many, and who of them answers probes."""

    def __init__(self, count: int) -> None:
        self.records = [
            replace(make_record(number, "0-9"), addresses=(Address.of(f"192.0.2.{number}", 7700),))
            for number in range(1, count + 1)
        ]
        self.silent: set[int] = set()

    async def lookup_all(self) -> list[SignedRecord]:
        return [SignedRecord(record, b"") for record in self.records]  # as if signed

    async def probe(self, places: Sequence[Address], _: int, __: float) -> Mapping[Address, float]:
        dead = {address for number in self.silent for address in self.records[number].addresses}
        return {address: 0.001 for address in places if address not in dead}


def never(_: Path) -> Client:
    raise AssertionError


def test_who_answered_once_and_is_silent_now_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH_SECONDS", -1.0)

    async def main() -> None:
        workers = Workers(3)
        workers.silent = {2}  # never heard: datagrams may not get through to it
        async with Catalog([], workers, never, probe=workers.probe, now=lambda: NOW) as catalog:
            assert await catalog.records() == workers.records
            workers.silent = {0, 2}
            assert await catalog.records() == workers.records[1:]
            workers.records[0] = replace(
                workers.records[0], sequence=2
            )  # it announces itself, and was not probed since
            monkeypatch.setattr(catalog, "_probed_at", float("inf"))
            assert await catalog.records() == workers.records
            monkeypatch.setattr(catalog, "_probed_at", float("-inf"))
            assert await catalog.records() == workers.records[1:]
            workers.silent = {2}
            assert await catalog.records() == workers.records

    asyncio.run(main())


def test_who_says_that_it_left_is_absent_as_soon_as_somebody_watches() -> None:
    async def main() -> None:
        workers = Workers(2)
        async with Catalog([], workers, never, now=lambda: NOW) as catalog:
            assert await catalog.records(watched=True) == workers.records
            workers.records[0] = replace(workers.records[0], state=PeerState.GONE)
            await asyncio.sleep(module.WATCH_SECONDS)
            assert len(await catalog.records()) == 2  # asked a moment ago
            await asyncio.sleep(0.01)
            assert await catalog.records(watched=True) == workers.records[1:]
            assert await catalog.records() == workers.records[1:]

    run_virtual(main())


def test_whoever_watches_waits_for_no_probe_and_hears_what_came_of_it() -> None:
    class Patient(Workers):
        async def probe(self, places: Sequence[Address], tries: int, seconds: float) -> Mapping[Address, float]:
            await asyncio.sleep(seconds)
            return await super().probe(places, tries, seconds)

    async def main() -> None:
        loop, workers = asyncio.get_running_loop(), Patient(2)
        async with Catalog([], workers, never, probe=workers.probe, now=lambda: NOW) as catalog:
            await catalog.records()
            workers.silent = {0}
            await asyncio.sleep(module.FRESH_SECONDS + 0.01)
            began = loop.time()
            assert await catalog.records(watched=True) == workers.records
            assert loop.time() == began
            await asyncio.sleep(module.PROBE_SECONDS + 0.01)
            assert await catalog.records(watched=True) == workers.records[1:]
            await asyncio.sleep(module.FRESH_SECONDS)
            await catalog.records(watched=True)  # leaves while a probe runs
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


def test_without_a_socket_to_probe_with_what_was_heard_before_holds() -> None:
    async def main() -> None:
        workers = Workers(1)

        async def probe(*_: object) -> Mapping[Address, float]:
            raise OSError("the test has no sockets left")

        async with Catalog([], workers, never, probe=probe, now=lambda: NOW) as catalog:
            assert await catalog.records() == workers.records

    asyncio.run(main())


def test_a_directory_that_takes_long_is_not_asked_all_the_time() -> None:
    class Slow(Workers):
        asked = 0

        async def lookup_all(self) -> list[SignedRecord]:
            self.asked += 1
            await asyncio.sleep(0.3)
            return await super().lookup_all()

    async def main() -> None:
        workers = Slow(1)
        async with Catalog([], workers, never, now=lambda: NOW) as catalog:
            for _ in range(660):
                await catalog.records(watched=True)
                await asyncio.sleep(0.05)
        assert workers.asked in (10, 11)  # every 3.3 seconds

    run_virtual(main())


def test_whom_a_client_found_dead_is_absent() -> None:
    class Suspicious:
        def avoided(self, strictly: bool) -> frozenset[Any]:
            return frozenset({workers.records[1].peer_id})

    workers = Workers(2)

    async def main() -> None:
        async with Catalog([], workers, never, now=lambda: NOW) as catalog:
            client: Any = type("Started", (), {"peers": Suspicious()})()
            catalog._clients["demo"] = client
            assert await catalog.records() == workers.records[:1]

    asyncio.run(main())


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_that_was_named_must_be_readable_another_is_left_out_with_a_word(tmp_path: Path, broken: str) -> None:
    model = make_model(tmp_path / "broken", tokenizer=True)
    (model / broken).write_bytes((model / broken).read_bytes()[:100])
    told: list[Event] = []
    trace = Trace()
    trace.listen(told.append)

    async def main() -> None:
        with pytest.raises(ModelFault, match=broken):
            await Catalog([model], None, never, named=[model]).__aenter__()
        async with Catalog([model], None, never, trace=trace) as catalog:
            assert not catalog.models
        assert broken in told[0].details["error"]

    asyncio.run(main())
