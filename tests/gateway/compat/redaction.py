"""Makes of a recorded request one that may be kept: nothing personal, nothing that changes from run to run, and a few words
of ours in the place of the programs' prose. The structure, names of fields and tools, and the shapes of schemas stay."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import Any

import zstandard
from gateway.compat.proxy import Exchange

KEPT_HEADERS = (
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "content-encoding",
    "content-type",
    "openai-beta",
    "user-agent",
)
LONGEST_TEXT = 60
KEPT_TEXTS = ("x-anthropic-billing-header:",)  # what begins so changes from request to request, and has to be known
LONGEST_DESCRIPTION = 20
REPEATED = ("tools", "system", "instructions")
PROSE = "Words of the program."
DESCRIPTION = "What it is for."
GRAMMAR = 'start: "*** Begin" LINE+ "*** End"\nLINE: /[^\\n]*\\n/'
FOLDER = "/home/user/notes"  # where the programs worked, as it is told
DATE = "2025-01-01"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ID = re.compile(r"\b(call|toolu|msg|resp|rs|fc|ctc|item|chatcmpl|ses|prt|user|functions)_[0-9A-Za-z_-]{8,}")
_HEX = re.compile(r"\b[0-9a-f]{24,}\b")
_DATE = re.compile(r"\b20\d\d-\d\d-\d\d(T[0-9:.]+Z?)?")
_TAG = re.compile(r"\s*<([a-zA-Z][\w-]*)>")


class Redaction:
    """Of one program's run: what is the same in two places stays the same."""

    def __init__(self, secrets: dict[str, str]) -> None:
        self._secrets = secrets  # what is replaced by what, such as home paths and host names
        self._names: dict[str, str] = {}

    def request(self, exchange: Exchange) -> dict[str, Any]:
        """The request as it is kept."""
        headers = {name: exchange.headers[name] for name in KEPT_HEADERS if name in exchange.headers}
        if "user-agent" in headers:
            headers["user-agent"] = headers["user-agent"].split(" ")[0]
        kept = {"method": exchange.method, "path": self._plain(exchange.path), "headers": headers}
        body = body_of(exchange)
        return kept | ({"body": self._value(json.loads(body), "")} if body else {})

    def _value(self, value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: self._value(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [self._value(each, key) for each in value]
        return self._text(value, key) if isinstance(value, str) else value

    def _text(self, text: str, key: str) -> str:
        if key == "description":
            return text if len(text) <= LONGEST_DESCRIPTION else DESCRIPTION
        if key == "definition":
            return GRAMMAR
        if key == "data" or text.startswith("data:image/"):
            return text.split(",")[0] + "," + PIXEL if text.startswith("data:") else PIXEL
        text = self._plain(text)
        if len(text) <= LONGEST_TEXT or key in ("arguments", "pattern") or text.startswith(KEPT_TEXTS):
            return text
        if text.startswith("{") and key not in ("content", "text"):  # JSON in a string, such as metadata's user_id
            return json.dumps(self._value(json.loads(text), key))
        tag = _TAG.match(text)
        return f"<{tag[1]}>\n{PROSE}\n</{tag[1]}>" if tag else PROSE

    def _plain(self, text: str) -> str:
        for secret, known in self._secrets.items():
            text = text.replace(secret, known)
        text = _UUID.sub(lambda found: self._named(found[0], "00000000-0000-4000-8000-{:012}"), text)
        text = _ID.sub(lambda found: self._named(found[0], found[1] + "_{:024}"), text)
        text = _HEX.sub(lambda found: self._named(found[0], "{:032x}"), text)
        return _DATE.sub(DATE, text)

    def _named(self, found: str, form: str) -> str:
        return self._names.setdefault(found, form.format(len(self._names) + 1))


def without_repeats(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where tools and instructions are those of a request before, they are left out and `as_before` tells of them."""
    seen: dict[str, Any] = {}
    kept = []
    for request in requests:
        body = request.get("body", {})
        same = [name for name in REPEATED if body.get(name) and seen.get(name) == body[name]]
        seen |= {name: body[name] for name in REPEATED if body.get(name)}
        less = {name: value for name, value in body.items() if name not in same}
        kept.append(request | ({"body": less, "as_before": same} if same else {}))
    return kept


def with_repeats(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The inverse of `without_repeats`."""
    seen: dict[str, Any] = {}
    whole = []
    for request in requests:
        body = request.get("body", {}) | {name: seen[name] for name in request.get("as_before", ())}
        seen |= {name: body[name] for name in REPEATED if body.get(name)}
        whole.append(request | ({"body": body} if body else {}))
    return whole


def body_of(exchange: Exchange) -> str:
    """A body as it was before its program compressed it."""
    match exchange.headers.get("content-encoding", ""):
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(exchange.body).decode()
        case "gzip":
            return gzip.decompress(exchange.body).decode()
        case "deflate":
            return zlib.decompress(exchange.body).decode()
    return exchange.body.decode()
