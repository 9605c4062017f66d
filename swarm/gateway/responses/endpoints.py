"""The endpoints of responses: make one, look at it, forget it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from swarm.gateway.call import Answering, Call
from swarm.gateway.http.errors import NotHere
from swarm.gateway.http.sse import EventStream
from swarm.gateway.responses.body import Writing
from swarm.gateway.responses.requests import ResponseRequest
from swarm.gateway.responses.store import ResponseStore


class Responses:
    """The endpoints, over one store."""

    def __init__(self) -> None:
        self.store = ResponseStore()

    async def create(self, call: Call) -> Answering:
        request = call.read(ResponseRequest)
        name = request.previous_response_id
        before = self.store.get(call.owner, name).messages if name else ()
        messages = request.messages(before, lambda name: self.store.item(call.owner, name))
        client = await call.gateway.catalog.client(request.model)
        async with AsyncExitStack() as stack:
            box, _ = request.offers()
            plain = request.plain(messages, call.owner)
            call.say_left_out(plain.left_out)
            (choice,) = await stack.enter_async_context(call.gateway.generator.choices(client, plain))
            writing = Writing(f"resp_{secrets.token_hex(24)}", int(call.gateway.now()), request, choice, box)
            if not request.stream:
                body = await writing.finish()
                self._keep(call, request, writing, messages)
                return body

            async def events() -> AsyncGenerator[bytes, None]:
                async with aclosing(writing.events()) as told:
                    async for each in told:
                        if writing.finished:  # before whoever asked can know of it
                            self._keep(call, request, writing, messages)
                        yield each

            return EventStream(events(), writing.failed, stack.pop_all(), writing.alive)

    async def compact(self, _: Call) -> Answering:
        raise NotHere("conversations are not made shorter here: whoever asks does that")

    async def get(self, call: Call) -> Answering:
        return dict(self.store.get(call.owner, call.request.path_params["name"]).body)

    async def input_items(self, call: Call) -> Answering:
        items = [dict(item) for item in self.store.get(call.owner, call.request.path_params["name"]).items]
        ends = (
            {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": None, "last_id": None}
        )
        return {"object": "list", "data": items, "has_more": False, **ends}

    async def delete(self, call: Call) -> Answering:
        name = call.request.path_params["name"]
        self.store.delete(call.owner, name)
        return {"id": name, "object": "response", "deleted": True}

    def _keep(self, call: Call, request: ResponseRequest, writing: Writing, messages: tuple[object, ...]) -> None:
        if request.store:
            items = [
                item.shown() | {"id": f"item_{number}", "type": item.type}
                for number, item in enumerate(request.items())
            ]
            self.store.put(call.owner, writing.body(), (*messages, writing.message()), items)  # type: ignore[arg-type]
