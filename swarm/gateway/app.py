"""The HTTP application: every path of the gateway, an answer for paths that nobody knows, an id for each answer."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarm.gateway.call import Gateway
from swarm.gateway.endpoint import refused
from swarm.gateway.http.errors import Refusal
from swarm.gateway.http.origins import Origins
from swarm.gateway.routes import routes_of

MAX_PATH = 128  # characters that are compared
LIKE = 0.8  # from 0 to 1, how much of two paths is the same


def create_app(gateway: Gateway, routes: Sequence[BaseRoute] | None = None) -> ASGIApp:
    """The application; `routes` are for tests, all of the gateway's by default."""
    routes = routes_of(gateway) if routes is None else list(routes)
    router: ASGIApp = Router(routes, default=_Nowhere([route.path for route in routes if isinstance(route, Route)]))
    router = _Named(router)
    return Origins(router, gateway.origins) if gateway.origins else router


def nearest(path: str, known: Sequence[str]) -> str | None:
    """The path that was probably meant: of a base address with too much or too little in it, or with a slip."""
    asked = f"/{path.strip('/')[:MAX_PATH]}"
    plain = sorted((each for each in known if "{" not in each and each != "/"), key=len, reverse=True)
    if f"/v1{asked}" in plain:
        return f"/v1{asked}"
    if asked != "/":
        for each in plain:
            if asked.endswith(each) or (each.endswith(asked) and each.startswith("/v1/")):
                return each
    return next(iter(difflib.get_close_matches(asked, plain, 1, LIKE)), None)


class _Nowhere:
    """For paths that nobody knows."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"there is nothing at {scope['method']} {scope['path']}"
        meant = nearest(scope["path"], self._known)
        message += f"; did you mean {meant}?" if meant else ""
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
