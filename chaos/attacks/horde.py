"""Clients that vanish: `python -m chaos.attacks.horde MODEL PRECISION SESSIONS HOST:PORT…` is a process for others to kill.

Every session stops after its first token until all have one; then it says `streaming` on stdout. Once it is told to go on, with
a line on stdin, all of them do, until it is killed or its stdin ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from chaos.scenarios import PROMPT_ROWS
from swarm import Client
from swarm.errors import LocalFault

FIRST_ID = 4
TOKENS = 400  # of an answer: nobody waits for its end
STREAMING_SECONDS = 300.0  # until all sessions have had a token


async def stream(model: str, precision: str, sessions: int, places: list[tuple[str, int]], told: asyncio.Event) -> None:
    """Ask for ever."""
    left = sessions

    async def one(client: Client, number: int) -> None:
        nonlocal left
        answer = client.generate([FIRST_ID + number % 64] * PROMPT_ROWS, max_tokens=TOKENS, ignore_eos=True)
        async for token in answer:
            if token.index == 0:
                left -= 1
                if not left:
                    sys.stdout.write("streaming\n")
                    sys.stdout.flush()
                await told.wait()

    async with Client(model, bootstrap=places, precision=precision) as client, asyncio.TaskGroup() as group:
        for number in range(sessions):
            group.create_task(one(client, number))


@asynccontextmanager
async def streaming(
    model: Path, precision: str, sessions: int, places: tuple[tuple[str, int], ...]
) -> AsyncIterator[Callable[[], None]]:
    """Such a process, in the middle of its streams; what it gives makes it go on. Leaving kills it.

    Raises LocalFault if it never gets there.
    """
    words = [str(model), precision, str(sessions), *(f"{host}:{port}" for host, port in places)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos.attacks.horde", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        process_group=0,
    )
    assert process.stdout is not None
    stdin = process.stdin
    assert stdin is not None
    line = b""
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(STREAMING_SECONDS):
                line = await process.stdout.readline()
        if line != b"streaming\n":
            raise LocalFault(f"{sessions} sessions did not come to stream within {STREAMING_SECONDS:g} s")
        yield lambda: stdin.write(b"go on\n")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        stdin.close()


async def _main(words: list[str]) -> None:
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def listen() -> None:
        while os.read(0, 1 << 12):
            loop.call_soon_threadsafe(told.set)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    places = [(host, int(port)) for host, _, port in (word.rpartition(":") for word in words[3:])]
    await stream(words[0], words[1], int(words[2]), places, told)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
