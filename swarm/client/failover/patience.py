"""How long a running session waits for a worker that is well and has no place: in its queue, or for its cache to grow.

What is done when patience ends is decided in `session`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from swarm.client.failover.stragglers import Step
from swarm.client.forwarding.stretch import Passage, Passed, Silence
from swarm.client.hops.history import Entry, History
from swarm.client.hops.session import HopSession
from swarm.errors import Overloaded, SwarmError
from swarm.wire.rows import Rows

MAX_TRIES = 64  # of one row at one worker, however they end
PATIENCE = 2  # times that a running session waits for a worker whose queue is full
PATIENCE_SECONDS = 2.0  # each time, however long the worker asks it to
GROWTH_SECONDS = (0.5, 2.5)  # that it waits, the least and the most, for a cache that is to grow
GROWTH_PAUSE = 0.25  # seconds between two tries
GROWTH_RETRY = 1.0  # seconds: a worker whose queue is full asks for so much, one whose cache cannot grow now for less


def cannot_grow(link: HopSession, position: int, error: SwarmError) -> bool:
    """Whether a worker refused a row for want of room in its cache."""
    if not isinstance(error, Overloaded) or position < link.rows:
        return False
    return error.retry_after < GROWTH_RETRY or math.isinf(error.retry_after)


async def patiently(
    links: Sequence[HopSession],
    entry: Entry,
    asking: Callable[[HopSession], None],
    after: Sequence[History] = (),
    silence: Silence | None = None,
) -> tuple[list[Passed], list[Step] | None]:
    """Rows through a stretch, and what each link took; a first worker whose queue or cache is full is given a little time.

    That costs less than a replay. No Steps if it was full, or if we did not run when rows came: how long they then took says
    nothing. The rest is as `Passage` and its `wait` say.
    """
    loop, link = asyncio.get_running_loop(), links[0]
    shortest, longest = GROWTH_SECONDS
    until = loop.time() + shortest + link.patience * (longest - shortest)
    for again in range(MAX_TRIES):
        queues = [each.load.queue_rows for each in links]
        try:
            passed = await Passage(links, entry, after, None if again else silence).wait(asking=asking)
        except Overloaded as error:
            growing = cannot_grow(link, entry.position, error)
            if math.isinf(error.retry_after) or (loop.time() >= until if growing else again >= PATIENCE):
                raise
            pause = min(GROWTH_PAUSE, until - loop.time()) if growing else min(error.retry_after, PATIENCE_SECONDS)
            await asyncio.sleep(pause)
            continue
        steps = [step_of(each, entry, queue) for each, queue in zip(passed, queues, strict=True)]
        return passed, None if again or None in steps else [step for step in steps if step is not None]
    raise AssertionError("the last attempt returns or raises")


def step_of(passed: Passed, entry: Entry, queue: int = 0) -> Step | None:
    """What a link took for these rows, whose worker had so many waiting before; None if that is not known."""
    if passed.seconds is None:
        return None
    link = passed.link
    shared = link.shared(passed.at - passed.seconds) if entry.rows is Rows.DECODE else link.load.sessions > 1
    return Step(entry.rows, entry.count, passed.seconds, max(queue, link.load.queue_rows), shared)
