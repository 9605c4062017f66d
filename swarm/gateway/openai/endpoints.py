"""OpenAI's endpoints: from a call to a response."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

from swarm.gateway.app import Answering, Call
from swarm.gateway.ask import Ask
from swarm.gateway.catalog import ModelCard
from swarm.gateway.errors import UnknownModel, refusal_of
from swarm.gateway.openai import chat, completions
from swarm.gateway.openai.requests import ChatRequest, CompletionRequest
from swarm.gateway.sse import EventStream, event
from swarm.gateway.turns import Turn


async def list_models(call: Call) -> Answering:
    cards = await call.gateway.catalog.cards()
    return {"object": "list", "data": [_model(card) for card in cards if card.available]}


async def get_model(call: Call) -> Answering:
    card = await call.gateway.catalog.card(call.request.path_params["model"])
    if not card.available:
        raise UnknownModel(f"nobody serves layers {', '.join(map(str, card.missing))} of {card.id} at the moment")
    return _model(card)


def _model(card: ModelCard) -> dict[str, Any]:
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "swarm",
        "context_length": card.context,
        "max_model_len": card.context,
    }


async def chat_completions(call: Call) -> Answering:
    request = ChatRequest.model_validate(call.json())
    stamp = chat.Stamp(f"chatcmpl-{secrets.token_hex(16)}", int(call.gateway.now()), request.model)
    ask = request.ask(call.owner)
    async with AsyncExitStack() as stack:
        turns = await open_turns(call, [ask], stack)
        if not request.stream:
            return chat.completion(stamp, turns, await chat.read_all(turns), request.logprobs)
        events = chat.chunks(stamp, turns, request.logprobs, request.wants_usage)
        return stream(events, stack.pop_all())


async def text_completions(call: Call) -> Answering:
    request = CompletionRequest.model_validate(call.json())
    stamp = chat.Stamp(f"cmpl-{secrets.token_hex(16)}", int(call.gateway.now()), request.model)
    asks = request.asks(call.owner)
    logprobs = request.logprobs is not None
    async with AsyncExitStack() as stack:
        turns = await open_turns(call, asks, stack)
        client = await call.gateway.catalog.client(request.model)
        echoed = [client.text.decode(turn.answer.prompt_ids) if request.echo else "" for turn in turns]
        if not request.stream:
            return completions.completion(stamp, turns, await chat.read_all(turns), echoed, logprobs)
        events = completions.chunks(stamp, turns, echoed, logprobs, request.wants_usage)
        return stream(events, stack.pop_all())


async def open_turns(call: Call, asks: list[Ask], stack: AsyncExitStack) -> list[Turn]:
    """Turns of all requests, which end with the stack."""
    client = await call.gateway.catalog.client(asks[0].model)
    turns: list[Turn] = []
    for ask in asks:
        turns += await stack.enter_async_context(call.gateway.asking.turns(client, ask))
    return turns


def stream(events: AsyncGenerator[bytes, None], stack: AsyncExitStack) -> EventStream:
    """A response that ends what is on the stack when it ends, however it does."""
    return EventStream(events, lambda error: event(refusal_of(error).openai(), "error"), stack)
