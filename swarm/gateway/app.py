"""The HTTP application: every path of the gateway, an answer for paths that nobody knows, an id for each answer."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarm.gateway.call import Gateway
from swarm.gateway.endpoint import refused
from swarm.gateway.http.errors import Refusal
from swarm.gateway.http.origins import Origins
from swarm.gateway.routes import routes_of


def create_app(gateway: Gateway, routes: Sequence[BaseRoute] | None = None) -> ASGIApp:
    """The application; `routes` are for tests, all of the gateway's by default."""
    router: ASGIApp = Router(routes_of(gateway) if routes is None else list(routes), default=_Nowhere())
    router = _Named(router)
    return Origins(router, gateway.origins) if gateway.origins else router


class _Nowhere:
    """For paths that nobody knows."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"there is nothing at {scope['method']} {scope['path']}"
        refusal = Refusal(404, message, "invalid_request_error", "not_found")
        await refused(Request(scope), refusal)(scope, receive, send)


class _Named:
    """Every answer carries an id, under the name that OpenAI's clients look for and the one that Anthropic's do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = secrets.token_hex(8).encode()

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", name), (b"request-id", name)]}
            await send(message)

        await self._app(scope, receive, named)
