"""Several pieces of one answer computed at the same time. Knows nothing of what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def gather_all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each came to, in their order. One that fails ends the others, with its own error; none outlives the call."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        tasks.clear()  # an exception holds this frame, and would be held by it
