"""TCP connections over links that lose packets. Knows nothing of what will be said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

ATTEMPTS = 3  # to one address, the later ones while the earlier are not answered
AGAIN_SECONDS = 1.1

Attempt = asyncio.Task[tuple[asyncio.Transport, asyncio.Protocol]]


async def dial(protocol: Callable[[], asyncio.Protocol], host: str, port: int) -> asyncio.Transport:
    """A connection, by whichever attempt is answered first. Waits without a deadline. Raises OSError.

    A lost SYN is sent again after 1 s and then only after 3 s (RFC 6298, section 2); an attempt that is begun anew asks sooner.
    """
    loop = asyncio.get_running_loop()
    attempts: set[Attempt] = set()
    answered: set[Attempt] = set()
    try:
        while not answered:
            attempts.add(loop.create_task(loop.create_connection(protocol, host, port), name="connecting"))
            seconds = AGAIN_SECONDS if len(attempts) < ATTEMPTS else None
            answered, _ = await asyncio.wait(attempts, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        first = answered.pop()
        attempts.discard(first)
        return first.result()[0]
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_drop)
            attempt.cancel()


def _drop(attempt: Attempt) -> None:
    """It is no longer needed; and it may have come through at the same moment."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result()[0].abort()
