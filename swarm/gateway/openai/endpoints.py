"""OpenAI's endpoints: from a call to a response."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack

from swarm.gateway.call import Answering, Call
from swarm.gateway.generation.choice import Choice
from swarm.gateway.generation.request import GenerationRequest
from swarm.gateway.http.errors import refusal_of
from swarm.gateway.http.sse import EventStream, event
from swarm.gateway.openai import chat, completions
from swarm.gateway.openai.requests import ChatRequest, CompletionRequest


async def chat_completions(call: Call) -> Answering:
    request = call.read(ChatRequest)
    stamp = chat.Stamp(f"chatcmpl-{secrets.token_hex(16)}", int(call.gateway.now()), request.model)
    plain, (box, _) = request.plain(call.owner), request.offers()
    call.say_left_out(plain.left_out)
    async with AsyncExitStack() as stack:
        choices = await open_choices(call, [plain], stack)
        if not request.stream:
            return chat.completion(stamp, choices, await chat.read_all(choices), request.logprobs, box)
        events = chat.chunks(stamp, choices, request.logprobs, request.wants_usage, box)
        return stream(events, stack.pop_all(), lambda: chat.alive(stamp, choices, request.wants_usage))


async def text_completions(call: Call) -> Answering:
    request = call.read(CompletionRequest)
    stamp = chat.Stamp(f"cmpl-{secrets.token_hex(16)}", int(call.gateway.now()), request.model)
    several = request.plain_requests(call.owner)
    logprobs = request.logprobs is not None
    async with AsyncExitStack() as stack:
        choices = await open_choices(call, several, stack)
        client = await call.gateway.catalog.client(request.model)
        echoed = [client.text.decode(choice.answer.prompt_ids) if request.echo else "" for choice in choices]
        if not request.stream:
            return completions.completion(stamp, choices, await chat.read_all(choices), echoed, logprobs)
        events = completions.chunks(stamp, choices, echoed, logprobs, request.wants_usage)
        return stream(events, stack.pop_all(), lambda: completions.alive(stamp, request.wants_usage))


async def open_choices(call: Call, requests: list[GenerationRequest], stack: AsyncExitStack) -> list[Choice]:
    """The choices of all requests, which end with the stack."""
    client = await call.gateway.catalog.client(requests[0].model)
    choices: list[Choice] = []
    for request in requests:
        choices += await stack.enter_async_context(call.gateway.generator.choices(client, request))
    return choices


def stream(events: AsyncGenerator[bytes, None], stack: AsyncExitStack, alive: Callable[[], bytes]) -> EventStream:
    """A response that ends what is on the stack when it ends, however it does."""
    return EventStream(events, lambda error: event(refusal_of(error).openai(), "error"), stack, alive)
