"""Clients that vanish: `python -m chaos.horde MODEL PRECISION SESSIONS HOST:PORT…` is a process for others to kill.

It says `streaming` on stdout once every session has had a token, and goes on asking until it is killed, or its stdin ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from chaos.scenarios import PROMPT_ROWS
from swarm import Client
from swarm.errors import LocalFault

FIRST_ID = 4
TOKENS = 400  # of an answer: nobody waits for its end
STREAMING_SECONDS = 120.0  # until all sessions have had a token


async def stream(model: str, precision: str, sessions: int, places: list[tuple[str, int]]) -> None:
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

    async with Client(model, bootstrap=places, precision=precision) as client, asyncio.TaskGroup() as group:
        for number in range(sessions):
            group.create_task(one(client, number))


@asynccontextmanager
async def streaming(
    model: Path, precision: str, sessions: int, places: tuple[tuple[str, int], ...]
) -> AsyncIterator[None]:
    """Such a process in mid-stream; leaving kills it. Raises LocalFault if it never gets there."""
    words = [str(model), precision, str(sessions), *(f"{host}:{port}" for host, port in places)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos.horde", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        process_group=0,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    line = b""
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(STREAMING_SECONDS):
                line = await process.stdout.readline()
        if line != b"streaming\n":
            raise LocalFault(f"{sessions} sessions did not come to stream within {STREAMING_SECONDS:g} s")
        yield
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process.stdin.close()


def _leave_with_stdin() -> None:
    while os.read(0, 1 << 12):
        pass
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_leave_with_stdin, daemon=True).start()
    given = [(host, int(port)) for host, _, port in (word.rpartition(":") for word in sys.argv[4:])]
    asyncio.run(stream(sys.argv[1], sys.argv[2], int(sys.argv[3]), given))
