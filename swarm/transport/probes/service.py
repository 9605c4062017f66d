"""The probe service, and the client that ranks candidates by it without a handshake with each."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence

from swarm.records import Address
from swarm.transport.probes.datagrams import Datagrams, Place
from swarm.transport.probes.packets import NONCE_BYTES, Oracle, Survey

RESENDS = 2  # times that a silent address is asked again within the time given
SECRET_BYTES = 32

Random = Callable[[int], bytes]  # so many random bytes


class ProbeServer:
    """`async with` answers probes on a UDP port. Raises PortInUse, UsageFault."""

    def __init__(self, host: str, port: int, *, random: Random = os.urandom) -> None:
        self._datagrams = Datagrams(host, port)
        self._oracle = Oracle(random(SECRET_BYTES))
        self._task: asyncio.Task[None] | None = None
        self.answered = 0
        self.ignored = 0  # datagrams that were no probe, or showed no good cookie

    @property
    def port(self) -> int:
        return self._datagrams.port

    async def __aenter__(self) -> ProbeServer:
        await self._datagrams.__aenter__()
        self._task = asyncio.get_running_loop().create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._datagrams.__aexit__()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while (received := await self._datagrams.receive()) is not None:
            data, source = received
            answer = self._oracle.answer(data, source, loop.time())
            if answer is None:
                self.ignored += 1
            else:
                self.answered += await self._datagrams.send(answer, source)

    def __repr__(self) -> str:
        return f"ProbeServer(port={self.port}, answered={self.answered}, ignored={self.ignored})"


async def measure_round_trips(
    addresses: Sequence[Address], count: int, seconds: float, *, random: Random = os.urandom
) -> dict[Address, float]:
    """The least round trip of `count` to each address that answers within `seconds`; others are absent.

    Returns sooner when all have answered.
    """
    surveys: dict[Place, Survey] = {(a.host, a.probe): Survey(count) for a in addresses if a.probe}
    if surveys:
        async with Datagrams("", 0) as datagrams:
            asking = asyncio.get_running_loop().create_task(_ask_again(datagrams, surveys, seconds, random))
            try:
                async with asyncio.timeout(seconds):
                    await _collect(datagrams, surveys, random)
            except TimeoutError:
                pass  # who has not answered by now is absent
            finally:
                asking.cancel()
    best = {address: surveys[address.host, address.probe].best for address in addresses if address.probe}
    return {address: seconds for address, seconds in best.items() if seconds is not None}


async def _ask_again(datagrams: Datagrams, surveys: dict[Place, Survey], seconds: float, random: Random) -> None:
    """Ask everybody, and the silent ones again: datagrams get lost."""
    loop = asyncio.get_running_loop()
    for _ in range(1 + RESENDS):
        for place, survey in surveys.items():
            if not survey.done:
                await datagrams.send(survey.next(random(NONCE_BYTES), loop.time()), place)
        await asyncio.sleep(seconds / (1 + RESENDS))


async def _collect(datagrams: Datagrams, surveys: dict[Place, Survey], random: Random) -> None:
    """Take answers, and send the next probe to whoever answered, until all are done."""
    loop = asyncio.get_running_loop()
    waiting = len(surveys)
    while waiting and (received := await datagrams.receive()) is not None:
        data, place = received
        survey = surveys.get(place)
        if survey is None or survey.done or not survey.take(data, loop.time()):
            continue
        if survey.done:
            waiting -= 1
        else:
            await datagrams.send(survey.next(random(NONCE_BYTES), loop.time()), place)
