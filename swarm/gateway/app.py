"""The HTTP application: routes, and what holds for all of them – keys, sizes, errors, disconnects. Pure ASGI on Starlette.

Endpoints are functions from a `Call` to a response; whatever they raise becomes a refusal in the words of the API asked.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarm.errors import LocalFault
from swarm.gateway.asking import Asking
from swarm.gateway.auth import Keys
from swarm.gateway.catalog import Catalog
from swarm.gateway.errors import FieldFault, Refusal, refusal_of
from swarm.gateway.metrics import Metrics
from swarm.gateway.sse import Disconnected, while_connected
from swarm.gateway.status import Who
from swarm.trace import Trace

MAX_BODY_BYTES = 32 << 20
ANTHROPIC_PATHS = ("/v1/messages",)

Answering = ASGIApp | dict[str, Any]


@dataclass(slots=True)
class Gateway:
    """What endpoints have."""

    catalog: Catalog
    keys: Keys = field(default_factory=lambda: Keys(()))
    asking: Asking = field(default_factory=Asking)
    trace: Trace = field(default_factory=Trace)
    now: Callable[[], float] = time.time
    who: Who = field(default_factory=Who)
    origins: tuple[str, ...] = ()  # web pages of other hosts that may ask; "*" is any
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.catalog, self.asking)


@dataclass(frozen=True, slots=True)
class Call:
    """One request that has been let in."""

    gateway: Gateway
    request: Request
    body: bytes
    owner: str

    def json(self) -> dict[str, Any]:
        """Raises FieldFault."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise FieldFault(f"the request's body is no JSON: {error}", "body") from error
        if not isinstance(value, dict):
            raise FieldFault("the request's body is no JSON object", "body")
        return value


Handler = Callable[[Call], Awaitable[Answering]]


class Endpoint:
    """One handler as an ASGI application."""

    def __init__(self, gateway: Gateway, path: str, handler: Handler, *, open_to_all: bool = False) -> None:
        self._gateway = gateway
        self._path = path  # as the metrics call it
        self._handler = handler
        self._open = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            owner = "" if self._open else self._gateway.keys.owner(request.headers)
            call = Call(self._gateway, request, await _body(request), owner)
            answer = await while_connected(receive, self._handler(call))
        except Disconnected:
            return
        except Exception as error:  # whatever went wrong, whoever asked is told something they can act on
            answer = self._refused(request, error)
        response = JSONResponse(answer) if isinstance(answer, dict) else answer

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._gateway.metrics.answered(self._path, message["status"])
            await send(message)

        await response(scope, receive, counted)

    def _refused(self, request: Request, error: Exception) -> Response:
        refusal = refusal_of(error)
        self._gateway.trace.failed("gateway.request", path=request.url.path, status=refusal.status, error=repr(error))
        if refusal.status >= 500 and refusal.code == "internal_error" and not isinstance(error, LocalFault):
            self._gateway.trace.failed("gateway.bug", path=request.url.path, error=error)
        return refused(request.url.path, refusal)


def refused(path: str, refusal: Refusal) -> Response:
    """In the words of the API that the path belongs to."""
    body = refusal.anthropic() if path.startswith(ANTHROPIC_PATHS) else refusal.openai()
    return JSONResponse(body, refusal.status, refusal.headers)


async def _body(request: Request) -> bytes:
    """Raises FieldFault for one that is too long."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise FieldFault(f"the request's body has more than {MAX_BODY_BYTES} bytes", "body")
        parts.append(part)
    return b"".join(parts)


def create_app(gateway: Gateway, routes: Sequence[BaseRoute] | None = None) -> ASGIApp:
    """The application; `routes` are for tests, all of the gateway's by default."""
    from swarm.gateway.routes import routes_of

    router: ASGIApp = Router(routes_of(gateway) if routes is None else list(routes), default=_Nowhere())
    router = _Named(router)
    return _Origins(router, gateway.origins) if gateway.origins else router


def route(gateway: Gateway, path: str, handler: Handler, *methods: str, open_to_all: bool = False) -> Route:
    """A path, and who may ask there: everybody with a key, or everybody."""
    return Route(path, Endpoint(gateway, path, handler, open_to_all=open_to_all), methods=list(methods or ("GET",)))


class _Nowhere:
    """For paths that nobody knows, and methods that a path does not take."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"there is nothing at {scope['method']} {scope['path']}"
        refusal = Refusal(404, message, "invalid_request_error", "not_found")
        await refused(scope["path"], refusal)(scope, receive, send)


class _Named:
    """Every answer carries an id, so that a log line can be found for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = secrets.token_hex(8).encode()

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", name)]}
            await send(message)

        await self._app(scope, receive, named)


class _Origins:
    """Cross-origin requests (WHATWG Fetch, 3.2) of the pages that the operator named."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Mapping[bytes, bytes] = dict(scope.get("headers", ()))
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin or not ({"*", origin} & self._origins):
            await self._app(scope, receive, send)
            return
        allowed = [
            (b"access-control-allow-origin", b"*" if "*" in self._origins else origin.encode("latin-1")),
            (b"vary", b"origin"),
        ]
        if scope["method"] == "OPTIONS":
            allowed += [
                (b"access-control-allow-methods", b"GET, POST, DELETE"),
                (b"access-control-allow-headers", headers.get(b"access-control-request-headers", b"")),
                (b"access-control-max-age", b"600"),
            ]
            await send({"type": "http.response.start", "status": 204, "headers": allowed})
            await send({"type": "http.response.body", "body": b""})
            return

        async def shared(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *allowed]}
            await send(message)

        await self._app(scope, receive, shared)
