"""The OpenAPI document (OpenAPI 3.1) of the gateway, made from the very models that requests are read with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from swarm.gateway.anthropic.requests import CountRequest, MessagesRequest
from swarm.gateway.call import Answering, Call
from swarm.gateway.openai.embeddings import EmbeddingRequest
from swarm.gateway.openai.requests import ChatRequest, CompletionRequest
from swarm.gateway.responses.requests import ResponseRequest
from swarm.version import __version__

REFUSALS = {
    "400": "A field that cannot be honoured; it is named",
    "401": "No API key, or a wrong one",
    "404": "No such model, or no such thing",
    "429": "Overloaded: come again after `retry-after` seconds",
    "502": "Peers contradict each other, or broke their word",
    "503": "Layers are missing; they are named",
    "504": "No progress within the deadline",
}
POSTS: dict[str, tuple[type[BaseModel], str]] = {
    "/v1/chat/completions": (ChatRequest, "Answer messages"),
    "/v1/completions": (CompletionRequest, "Go on from a text"),
    "/v1/embeddings": (EmbeddingRequest, "Vectors for texts, pooled as the model's own files say"),
    "/v1/responses": (ResponseRequest, "Answer input; kept to go on from, if wanted"),
    "/v1/messages": (MessagesRequest, "Answer messages, as Anthropic has it"),
    "/v1/messages/count_tokens": (CountRequest, "Count a prompt's tokens"),
}
GETS = {
    "/health": "Whether any model can be asked for",
    "/metrics": "Figures for Prometheus",
    "/api/status": "Models, workers and sessions",
    "/v1/models": "Models that can be asked for",
    "/v1/models/{model}": "One of them",
    "/v1/responses/{name}": "A response that was kept",
    "/v1/responses/{name}/input_items": "What it was an answer to",
}


def document() -> dict[str, Any]:
    """The whole of it."""
    _, schemas = models_json_schema(
        [(model, "validation") for model, _ in POSTS.values()], ref_template="#/components/schemas/{model}"
    )
    refusals = {status: {"description": text} for status, text in REFUSALS.items()}
    paths: dict[str, Any] = {}
    for path, (model, summary) in POSTS.items():
        schema = {"$ref": f"#/components/schemas/{model.__name__}"}
        paths[path] = {
            "post": {
                "summary": summary,
                "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
                "responses": {"200": {"description": "The answer"}, **refusals},
            }
        }
    for path, summary in GETS.items():
        names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
        parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
        paths[path] = {
            "get": {
                "summary": summary,
                "parameters": parameters,
                "responses": {"200": {"description": "It"}, **refusals},
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "swarm", "version": __version__, "description": "One language model across many machines"},
        "security": [{"key": []}],
        "components": {"schemas": schemas["$defs"], "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


async def show(_: Call) -> Answering:
    """The endpoint."""
    return document()
