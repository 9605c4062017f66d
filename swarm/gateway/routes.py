"""Every path of the gateway."""

from __future__ import annotations

from starlette.routing import BaseRoute

from swarm.gateway.anthropic import endpoints as anthropic
from swarm.gateway.call import Gateway
from swarm.gateway.endpoint import route
from swarm.gateway.models import get_model, list_models
from swarm.gateway.monitoring.console import Console
from swarm.gateway.monitoring.endpoints import Monitoring
from swarm.gateway.monitoring.status import StatusSource
from swarm.gateway.openai import endpoints as openai
from swarm.gateway.openai.document import show as show_document
from swarm.gateway.openai.embeddings import embeddings
from swarm.gateway.responses.endpoints import Responses


def routes_of(gateway: Gateway) -> list[BaseRoute]:
    responses = Responses()
    source = StatusSource(gateway.catalog, gateway.generator, gateway.who, gateway.now)
    monitoring = Monitoring(source, gateway.metrics)
    console = Console()
    return [
        route(gateway, "/", console.page, open_to_all=True),
        *(route(gateway, f"/{name}", console.file, open_to_all=True) for name in console.names),
        route(gateway, "/health", monitoring.health, open_to_all=True),
        route(gateway, "/openapi.json", show_document, open_to_all=True),
        route(gateway, "/metrics", monitoring.metrics),
        route(gateway, "/api/status", monitoring.status),
        route(gateway, "/api/events", monitoring.events),
        route(gateway, "/v1/models", list_models),
        route(gateway, "/v1/models/{model:path}", get_model),
        route(gateway, "/v1/chat/completions", openai.chat_completions, "POST"),
        route(gateway, "/v1/completions", openai.text_completions, "POST"),
        route(gateway, "/v1/embeddings", embeddings, "POST"),
        route(gateway, "/v1/responses", responses.create, "POST"),
        route(gateway, "/v1/responses/compact", responses.compact, "POST"),
        route(gateway, "/v1/responses/{name}", responses.get),
        route(gateway, "/v1/responses/{name}", responses.delete, "DELETE"),
        route(gateway, "/v1/responses/{name}/input_items", responses.input_items),
        route(gateway, "/v1/messages", anthropic.create_message, "POST"),
        route(gateway, "/v1/messages/count_tokens", anthropic.count_tokens, "POST"),
    ]
