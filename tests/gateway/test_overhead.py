"""What the gateway adds to a token while sixteen streams are read: a kept measurement, run by `make soak`."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

import pytest
from support.gateway import MODEL, Served, serving

from swarm.gateway.event_bus import BusEvent

STREAMS, TOKENS, ROUNDS = 16, 150, 5
MOST_SECONDS = 1e-3  # added to a token
MESSAGES = [{"role": "user", "content": "a function that adds two numbers"}]
BODY = {
    "model": MODEL,
    "messages": MESSAGES,
    "max_tokens": TOKENS,
    "temperature": 0,
    "ignore_eos": True,
    "stream": True,
}
# Another process reads, so that its work is not counted.
READER = """
import selectors, socket, sys
host, port, count, body = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
head = b"POST /v1/chat/completions HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\nContent-Type: application/json\\r\\n"
selector = selectors.DefaultSelector()
for _ in range(count):
    stream = socket.create_connection((host, port))
    stream.sendall(head + b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
    selector.register(stream, selectors.EVENT_READ)
while selector.get_map():
    for key, _ in selector.select():
        if not key.fileobj.recv(1 << 16):
            selector.unregister(key.fileobj)
"""


class Clock:
    """Wall and processor time of this process, from the first answer's beginning to the last one's end."""

    def __init__(self) -> None:
        self.moments: list[tuple[float, float]] = []

    def __call__(self, event: BusEvent) -> None:
        if event.name == "session":
            self.note()

    def note(self) -> None:
        self.moments.append((time.perf_counter(), time.process_time()))

    def taken(self) -> tuple[float, float]:
        (wall, cpu), (wall_end, cpu_end) = self.moments[0], self.moments[-1]
        self.moments = []
        return wall_end - wall, cpu_end - cpu


async def direct(served: Served, clock: Clock) -> tuple[float, float]:
    client = await served.gateway.catalog.client(MODEL)
    clock.note()
    answers = [client.generate(MESSAGES, max_tokens=TOKENS, ignore_eos=True) for _ in range(STREAMS)]
    await asyncio.gather(*(answer.read() for answer in answers))
    clock.note()
    return clock.taken()


async def over_http(served: Served, clock: Clock) -> tuple[float, float]:
    host, port = served.url.removeprefix("http://").split(":")
    reader = await asyncio.create_subprocess_exec(
        sys.executable, "-c", READER, host, port, str(STREAMS), json.dumps(BODY)
    )
    assert await reader.wait() == 0
    return clock.taken()


@pytest.mark.soak
def test_the_gateway_adds_less_than_a_millisecond_to_a_token() -> None:
    async def main() -> None:
        clock = Clock()
        async with serving() as served:
            served.gateway.generator.bus.tap(clock)
            pairs = []
            for number in range(ROUNDS + 1):
                alone, gated = await direct(served, clock), await over_http(served, clock)
                if number:  # the first warms up
                    pairs.append((alone, gated))
        tokens = STREAMS * TOKENS
        wall, cpu = (statistics.median((gated[i] - alone[i]) / tokens for alone, gated in pairs) for i in (0, 1))
        sys.stdout.write(
            f"\n  the gateway adds {1e3 * wall:.3f} ms to a token ({1e3 * cpu:.3f} ms of processor time)\n"
        )
        assert wall <= MOST_SECONDS

    asyncio.run(main())
