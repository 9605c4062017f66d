"""Links as long and narrow as asked for, and what they alone allow."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest

from swarm.bench.wan.distance import Distance
from swarm.bench.wan.run import far_apart
from swarm.errors import UsageFault
from swarm.records import Address

FAR = Distance(0.02, 12.5e6)


@pytest.mark.parametrize(
    ("text", "delay", "rate"), [("20ms,100mbit", 0.02, 12.5e6), ("1.5s,64kbit", 1.5, 8000), ("5MS,1Gbit", 0.005, 125e6)]
)
def test_a_distance_is_read(text: str, delay: float, rate: float) -> None:
    assert Distance.parse(text) == Distance(delay, rate)


@pytest.mark.parametrize("text", ["20ms", "20,100mbit", "0ms,100mbit", "20ms,0mbit", "20ms,100mb", "-1ms,1mbit"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageFault, match="such as 20ms,100mbit"):
        Distance.parse(text)


def test_what_distance_allows() -> None:
    assert FAR.token_seconds(3, 0.02, 12_500, direct=True) == pytest.approx(0.02 + 4 * 0.021)
    assert FAR.token_seconds(3, 0.02, 12_500, direct=False) == pytest.approx(0.02 + 6 * 0.021)
    # one chunk goes through alone, the others follow as fast as a machine that all hops share computes them
    assert FAR.prompt_seconds(2, 0.8, 0, 4, 1, direct=True) == pytest.approx(3 * 0.02 + 0.2 + 3 * 0.2)
    # or as fast as the link carries them
    assert FAR.prompt_seconds(2, 0.0, 1.25e6, 4, 1, direct=True) == pytest.approx(3 * 0.12 + 3 * 0.1)


@dataclass(frozen=True)
class Placed:
    addresses: tuple[Address, ...]


@dataclass
class Behind:
    record: Any


@dataclass
class Two:
    workers: list[Behind]


def test_bytes_take_their_time_both_ways_and_as_many_as_the_link_is_wide() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        place = Address("127.0.0.1", server.sockets[0].getsockname()[1], 0, 0)
        swarm: Any = Two([Behind(Placed((place,))), Behind(Placed((place,)))])
        async with far_apart(swarm, Distance(0.03, 1e6)):
            assert len({worker.record.addresses for worker in swarm.workers} | {(place,)}) == 3
            reader, writer = await asyncio.open_connection("127.0.0.1", swarm.workers[0].record.addresses[0].data)
            for size, least in ((1, 0.06), (50_000, 0.11)):
                began = time.monotonic()
                writer.write(bytes(size))
                assert await reader.readexactly(size) == bytes(size)
                assert time.monotonic() - began >= least
            writer.close()
        server.close()

    asyncio.run(main())
