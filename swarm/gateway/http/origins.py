"""Which web pages may ask. A browser runs strangers' programs on this machine, which reach what listens on loopback.

A gateway without keys therefore takes requests for this machine's own names only (else a page could give its own name this
machine's address: DNS rebinding), and from no page of another origin: browsers say with each request whose page sent it
(WHATWG Fetch, 3.1; W3C Fetch Metadata). Where a key is asked for, the key is the proof: no page of a stranger has it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarm.gateway.http.errors import Forbidden

EXPOSED = b"retry-after, x-request-id"  # headers of answers that pages may read


def check_page(headers: Mapping[str, str], origins: Collection[str]) -> None:
    """Of a request to a gateway without keys. `origins`: those that the operator named. Raises Forbidden."""
    if "*" in origins:
        return
    host, origin = headers.get("host", ""), headers.get("origin")
    named = {each.partition("://")[2] for each in origins}
    if host and host not in named and not _is_here(host):
        raise Forbidden(
            f"without API keys requests are for this machine, not for {host!r}: start with --api-key KEY, or have the tunnel or "
            "proxy send `Host: localhost`"
        )
    if origin is None:
        foreign = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
    else:
        foreign = origin not in origins and origin not in (f"http://{host}", f"https://{host}")
    if foreign:
        whose = "another site's" if origin is None else repr(origin)
        raise Forbidden(f"web pages of {whose} may not ask here: start with --cors-origin URL for those that may")


def _is_here(host: str) -> bool:
    """Whether a Host header names this machine's loopback."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        name = name.lower().removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")


class Origins:
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
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"origin"),
        ]
        if scope["method"] == "OPTIONS":
            allowed += [
                (b"access-control-allow-methods", b"GET, POST, DELETE"),
                (b"access-control-allow-headers", headers.get(b"access-control-request-headers", b"")),
                (b"access-control-max-age", b"600"),
            ]
            if headers.get(b"access-control-request-private-network") == b"true":
                allowed.append((b"access-control-allow-private-network", b"true"))
            await send({"type": "http.response.start", "status": 204, "headers": allowed})
            await send({"type": "http.response.body", "body": b""})
            return

        async def shared(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *allowed]}
            await send(message)

        await self._app(scope, receive, shared)
