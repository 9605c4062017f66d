"""A request's body: read within bounds, and JSON that can be written down again. Knows nothing of what it asks for."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from starlette.requests import Request

from swarm.gateway.http.compression import check_encoding, decoded
from swarm.gateway.http.errors import BodyTooLong, BodyTooSlow, FieldFault

MAX_BODY_BYTES = 8 << 20  # a long context's text is a few MB; reading JSON keeps the event loop for 10 ms a MB
BODY_SECONDS = 60.0  # for all of it
MAX_DEPTH = 100  # of lists and objects in each other; whoever reads them further may do so by recursion


async def read_body(request: Request) -> bytes:
    """Decoded. Raises BodyTooLong, BodyTooSlow, UnknownEncoding, FieldFault, and starlette's ClientDisconnect."""
    encodings = check_encoding(request.headers.get("content-encoding", ""))
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > MAX_BODY_BYTES:
                    raise BodyTooLong(f"the request's body has more than {MAX_BODY_BYTES} bytes", "body")
                parts.append(part)
    except TimeoutError:
        raise BodyTooSlow(f"the request's body took more than {BODY_SECONDS:g} s", "body") from None
    body = b"".join(parts)
    return await asyncio.to_thread(decoded, body, encodings, MAX_BODY_BYTES) if encodings and body else body


def read_json(body: bytes) -> dict[str, Any]:
    """The object that a body is. Raises FieldFault, also for what JSON does not know: NaN, infinities, half characters."""
    try:
        value = json.loads(body, parse_float=_finite, parse_constant=_no_number)
        if b"\\u" in body:  # the only way for half of a surrogate pair to come in
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise FieldFault("the request's body is no JSON: it holds half of a surrogate pair", "body") from error
    except (ValueError, RecursionError) as error:
        raise FieldFault(f"the request's body is no JSON: {error}", "body") from error
    if not isinstance(value, dict):
        raise FieldFault("the request's body is no JSON object", "body")
    _check_depth(value)
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond all numbers")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for several in inner for each in several if isinstance(each, dict | list)]
        if not level:
            return
    raise FieldFault(f"the request's body holds lists or objects in each other, more than {MAX_DEPTH} deep", "body")
