"""The console's files, as they are: one page, its style, its scripts. Read once; nothing but these names is served."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.responses import Response

from swarm.gateway.call import Answering, Call

FILES = Path(__file__).parents[1] / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Everything from this host, nothing inline; the page is framed by nobody and sends no forms.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class Console:
    """The endpoints of the page and of what it loads. Who opens it needs no key: it asks for one."""

    def __init__(self) -> None:
        self._files = {file.name: file.read_bytes() for file in sorted(FILES.iterdir()) if file.suffix in KINDS}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._files)

    async def page(self, call: Call) -> Answering:
        return self._file("index.html", call)

    async def file(self, call: Call) -> Answering:
        return self._file(call.request.url.path.lstrip("/"), call)

    def _file(self, name: str, call: Call) -> Response:
        content = self._files[name]
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = HEADERS | {"etag": tag}
        if name == "swarm.js":
            headers["access-control-allow-origin"] = "*"  # a library that any page may load
        if call.request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=f"{KINDS[Path(name).suffix]}; charset=utf-8", headers=headers)
