"""The endpoints for those who watch: `/health`, `/metrics`, `/api/status`, `/api/events`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import JSONResponse, Response

from swarm.errors import Overloaded
from swarm.gateway.call import Answering, Call
from swarm.gateway.event_bus import MAX_LISTENERS, BusEvent, Full
from swarm.gateway.http.errors import refusal_of
from swarm.gateway.http.sse import EventStream, event
from swarm.gateway.monitoring.metrics import Metrics
from swarm.gateway.monitoring.status import StatusSource

LOOK_SECONDS = 0.5  # between two looks at the status while somebody watches


class Monitoring:
    """The endpoints, over one source."""

    def __init__(self, source: StatusSource, metrics: Metrics) -> None:
        self._source = source
        self._metrics = metrics

    async def health(self, call: Call) -> Answering:
        """200 while at least one model can be asked for, else 503: what a balancer wants to know."""
        cards = await call.gateway.catalog.cards()
        ready = [card.id for card in cards if card.available]
        return JSONResponse({"status": "ok" if ready else "waiting for layers", "models": ready}, 200 if ready else 503)

    async def metrics(self, call: Call) -> Answering:
        await call.gateway.catalog.records()
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def status(self, _: Call) -> Answering:
        return await self._source.status()

    async def events(self, _: Call) -> Answering:
        return EventStream(self._told(), lambda error: event(refusal_of(error).openai(), "error"))

    async def _told(self) -> AsyncGenerator[bytes, None]:
        """The status whenever it changed, and between what happens. Raises Overloaded when too many watch."""
        bus, before = self._source.generator.bus, ""
        try:
            with bus.listen() as events:
                waiting: asyncio.Future[BusEvent] | None = None
                try:
                    while not bus.closed:
                        status = await self._source.status()
                        shown = json.dumps(_lasting(status))
                        if shown != before:
                            before = shown
                            yield event(status, "status")
                        until = asyncio.get_running_loop().time() + LOOK_SECONDS
                        while (left := until - asyncio.get_running_loop().time()) > 0 and not bus.closed:
                            waiting = waiting or asyncio.ensure_future(anext(events))
                            await asyncio.wait({waiting}, timeout=left)
                            if waiting.done():
                                told, waiting = waiting.result(), None
                                yield event(told.data, told.name)
                finally:
                    if waiting is not None:
                        waiting.cancel()
                        await asyncio.wait({waiting})
        except Full:
            raise Overloaded(f"{MAX_LISTENERS} watch already, which is the limit", 30.0) from None


def _lasting(status: dict[str, Any]) -> dict[str, Any]:
    """Without what changes by itself."""
    workers = [{**worker, "expires_in_s": 0} for worker in status["workers"]]
    sessions = [{**session, "since_s": 0} for session in status["sessions"]]
    avoided = [{**each, "seconds": 0} for each in status["avoided"]]
    node = {**status["node"], "uptime_s": 0}
    return {**status, "node": node, "workers": workers, "avoided": avoided, "sessions": sessions}
