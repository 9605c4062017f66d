"""The models that can be asked for, told in the words of whichever API a program speaks: both list them at one path."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from swarm.gateway.call import Answering, Call
from swarm.gateway.catalog import ModelCard
from swarm.gateway.endpoint import speaks_anthropic
from swarm.gateway.http.errors import UnknownModel


async def list_models(call: Call) -> Answering:
    cards = [card for card in await call.gateway.catalog.cards() if card.available]
    if not speaks_anthropic(call.request):
        return {"object": "list", "data": [_openai(card) for card in cards]}
    told = [_anthropic(card) for card in cards]
    first, last = (told[0]["id"], told[-1]["id"]) if told else (None, None)
    return {"data": told, "has_more": False, "first_id": first, "last_id": last}


async def get_model(call: Call) -> Answering:
    card = await call.gateway.catalog.card(call.request.path_params["model"])
    if not card.available:
        raise UnknownModel(f"nobody serves layers {', '.join(map(str, card.missing))} of {card.id} at the moment")
    return _anthropic(card) if speaks_anthropic(call.request) else _openai(card)


def _openai(card: ModelCard) -> dict[str, Any]:
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "swarm",
        "context_length": card.context,
        "max_model_len": card.context,
    }


def _anthropic(card: ModelCard) -> dict[str, Any]:
    created = datetime.fromtimestamp(card.created, UTC)
    return {
        "type": "model",
        "id": card.id,
        "display_name": card.id,
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": card.context,
        "max_tokens": card.context,
    }
