"""The heads of a model that run here, each loaded once, and whose kernels compute them."""

from __future__ import annotations

import asyncio

from swarm.client.heads import Heads
from swarm.engine.backends import Model
from swarm.engine.compute_thread import ComputeThread
from swarm.trace import Trace


class HeadLoader:
    """Of one model, on one device."""

    def __init__(self, opened: Model, compute: ComputeThread, device: str, trace: Trace) -> None:
        self._opened = opened
        self._compute = compute
        self._device = device
        self._trace = trace
        self._loaded: dict[tuple[str, str], Heads] = {}  # a chain has one of few precisions
        self._loading = asyncio.Lock()
        self._named = False  # whether portable numerics were asked for by name, and not chosen or a chain's

    def numerics(self, asked: str, precision: str) -> str:
        """Whose kernels compute here; why not portable ones, where that was left open, the trace hears."""
        self._named = asked == "portable"
        return self._chosen(asked, precision, self._device)

    def _chosen(self, asked: str, precision: str, device: str) -> str:
        choice = self._opened.numerics(asked, precision, device)
        if choice.reason is not None:
            self._trace.failed("engine.numerics", reason=choice.reason)
        return choice.numerics

    async def heads(self, precision: str, numerics: str) -> Heads:
        """Of that precision and, if they can be had here, those numerics. Raises ModelFault, UsageFault."""
        async with self._loading:
            if (key := (precision, numerics)) not in self._loaded:
                device = self._device
                if numerics == "portable" and not self._named:  # by whatever is known to give a portable chain's bits
                    numerics = self._chosen("auto", precision, "cpu")
                    device = "cpu" if numerics == "portable" else device
                load = self._opened.load_head
                head = await self._compute.run(lambda: load(precision, device, numerics=numerics))
                self._loaded[key] = Heads(head, self._compute)
            return self._loaded[key]
