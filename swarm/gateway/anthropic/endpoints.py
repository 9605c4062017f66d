"""Anthropic's endpoints: from a call to a response."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack

from swarm.gateway.anthropic import messages
from swarm.gateway.anthropic.requests import CountRequest, MessagesRequest
from swarm.gateway.call import Answering, Call
from swarm.gateway.http.errors import refusal_of
from swarm.gateway.http.sse import EventStream, event


async def create_message(call: Call) -> Answering:
    request = call.read(MessagesRequest)
    name = f"msg_{secrets.token_hex(12)}"
    client = await call.gateway.catalog.client(request.model)
    plain = request.plain(call.owner)
    call.say_left_out(plain.left_out)
    async with AsyncExitStack() as stack:
        (choice,) = await stack.enter_async_context(call.gateway.generator.choices(client, plain))
        if not request.stream:
            return messages.message(name, request.model, choice, await messages.blocks(choice))
        events = messages.events(name, request.model, choice)
        return EventStream(
            events, lambda error: event(refusal_of(error).anthropic(), "error"), stack.pop_all(), messages.alive
        )


async def count_tokens(call: Call) -> Answering:
    request = call.read(CountRequest)
    client = await call.gateway.catalog.client(request.model)
    return {"input_tokens": await call.gateway.generator.count(client, request.prompt(call.owner))}
