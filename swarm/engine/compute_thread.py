"""Where tensors are computed: one thread per device, so that the event loop never waits for torch.

`InlineCompute` runs the same calls on the event loop, for simulations in virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

NO_MEMORY = "can't allocate memory"  # so torch says on the CPU, where its error has no class of its own

T = TypeVar("T")


def lacks_memory(error: BaseException) -> bool:
    """Whether a computation failed because memory for it could not be had: it may be tried again, here or elsewhere."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and NO_MEMORY in str(error)


class ComputeThread:
    """`async with ComputeThread("cpu") as compute: await compute.run(function)`; calls run in the order they were made."""

    def __init__(self, name: str = "compute") -> None:
        self._name = name
        self._executor: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> ComputeThread:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._executor is not None
        executor, self._executor = self._executor, None
        await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)

    async def run(self, function: Callable[[], T]) -> T:
        """The function's result or exception. Cancelling the caller leaves a call that began to its end."""
        if self._executor is None:
            raise RuntimeError("the compute thread is not running")
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)


class InlineCompute:
    """Computes on the event loop itself."""

    async def run(self, function: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        return function()
