"""One path of the gateway, and what holds for all of them: keys, sizes, errors, disconnects. Pure ASGI on Starlette.

A handler is a function from a `Call` to an answer; whatever it raises becomes a refusal in the words of the API asked.
"""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarm.errors import LocalFault
from swarm.gateway.call import Answering, Call, Gateway, Handler
from swarm.gateway.http.body import read_body
from swarm.gateway.http.compression import encoded
from swarm.gateway.http.errors import FieldFault, Refusal, refusal_of
from swarm.gateway.http.origins import check_page
from swarm.gateway.http.sse import Disconnected, EventStream, while_connected

# What a prompt is called there; in chats it is the messages.
PROMPTS = {"/v1/completions": "prompt", "/v1/embeddings": "input", "/v1/responses": "input"}
ANTHROPIC_PATHS = ("/v1/messages",)
SHARED_PATHS = ("/v1/models",)  # of both APIs: programs of Anthropic's send its version along


def route(gateway: Gateway, path: str, handler: Handler, *methods: str, open_to_all: bool = False) -> Route:
    """A path, and who may ask there: everybody with a key, or everybody."""
    return _Path(path, Endpoint(gateway, path, handler, open_to_all=open_to_all), methods=list(methods or ("GET",)))


class _Path(Route):
    """A route that refuses methods in the API's own words."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = sorted(self.methods or ())
        if scope["method"] in known:
            await self.app(scope, receive, send)
            return
        message = f"{scope['path']} takes {' and '.join(known)}, not {scope['method']}"
        refusal = Refusal(405, message, "invalid_request_error", "method_not_allowed", allow=tuple(known))
        await refused(Request(scope), refusal)(scope, receive, send)


class Endpoint:
    """One handler as an ASGI application."""

    def __init__(self, gateway: Gateway, path: str, handler: Handler, *, open_to_all: bool = False) -> None:
        self._gateway = gateway
        self._path = path  # as the metrics call it
        self._handler = handler
        self._open = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response: ASGIApp
        try:
            response = await self._answer(request, receive)
        except (Disconnected, ClientDisconnect):
            return
        except Exception as error:  # whatever went wrong, whoever asked is told something they can act on
            response = self._refused(request, error)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._gateway.metrics.answered(self._path, message["status"])
            await send(message)

        await response(scope, receive, counted)

    async def _answer(self, request: Request, receive: Receive) -> ASGIApp:
        gateway, owner = self._gateway, ""
        if not self._open:
            owner = gateway.keys.owner(request.headers)
            if not gateway.keys.needed:
                check_page(request.headers, gateway.origins)
        call = Call(gateway, request, await read_body(request), owner)
        answer = await while_connected(receive, self._begun(call), gateway.ending)
        response = JSONResponse(answer) if isinstance(answer, dict) else answer
        return await encoded(response, request.headers.get("accept-encoding", ""))

    async def _begun(self, call: Call) -> Answering:
        """A stream's beginning is waited for: what fails until then is told by a status."""
        answer = await self._handler(call)
        if isinstance(answer, EventStream):
            await answer.begin(self._gateway.keepalive_seconds, self._gateway.ending)
        return answer

    def _refused(self, request: Request, error: Exception) -> Response:
        refusal = refusal_of(error)
        if refusal.param == "messages" and not isinstance(error, FieldFault):
            refusal = replace(refusal, param=PROMPTS.get(self._path, refusal.param))
        # The message, not the error: that of a field out of bounds holds what was asked, which is nobody else's business.
        self._gateway.trace.failed("gateway.request", path=self._path, status=refusal.status, error=refusal.message)
        if refusal.status >= 500 and refusal.code == "internal_error" and not isinstance(error, LocalFault):
            self._gateway.trace.failed("gateway.bug", path=self._path, error=error)
        return refused(request, refusal)


def refused(request: Request, refusal: Refusal) -> Response:
    """In the words of the API that was asked."""
    body = refusal.anthropic() if speaks_anthropic(request) else refusal.openai()
    return JSONResponse(body, refusal.status, refusal.headers)


def speaks_anthropic(request: Request) -> bool:
    """Whether it is Anthropic's API that was asked."""
    path = request.url.path
    return path.startswith(ANTHROPIC_PATHS) or (
        path.startswith(SHARED_PATHS) and "anthropic-version" in request.headers
    )
