"""`POST /v1/embeddings`: vectors of texts, made as each model's own files say it (see `swarm.engine.pooling`)."""

from __future__ import annotations

import array
import asyncio
import base64
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from swarm.client import Client
from swarm.gateway.call import Answering, Call
from swarm.gateway.generation.concurrency import gather_all
from swarm.gateway.http.errors import FieldFault
from swarm.gateway.http.fields import Whole, whole_ids
from swarm.gateway.openai.messages import Fields
from swarm.gateway.openai.requests import Name

MAX_TEXTS = 256
AT_ONCE = 8  # texts taken through the chain together


class EmbeddingRequest(Fields):
    """OpenAI's request."""

    model: Name
    input: Annotated[str | list[str] | list[int] | list[list[int]], BeforeValidator(whole_ids)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Whole | None = None
    user: str | None = Field(None)

    def inputs(self) -> list[str | list[int]]:
        """One for each vector. Raises FieldFault."""
        given: Any = self.input
        if isinstance(given, str) or (given and all(isinstance(each, int) for each in given)):
            given = [given]
        if not 1 <= len(given) <= MAX_TEXTS:
            raise FieldFault(f"input: 1 to {MAX_TEXTS} texts are taken at once, not {len(given)}", "input")
        if not all(given):
            raise FieldFault("input: an empty text has no vector", "input")
        return list(given)


async def embeddings(call: Call) -> Answering:
    """The endpoint."""
    request = call.read(EmbeddingRequest)
    client = await call.gateway.catalog.client(request.model)
    inputs = request.inputs()
    width = client.pooling.width(client.spec.embedding_width)
    if request.dimensions not in (None, width):
        raise FieldFault(f"dimensions: this model's vectors have {width}", "dimensions")
    ids = await asyncio.to_thread(_encoded, client, inputs)
    vectors = await _all(client, ids)
    count = sum(map(len, ids))
    return {
        "object": "list",
        "model": request.model,
        "data": [
            {"object": "embedding", "index": number, "embedding": _shown(vector, request.encoding_format)}
            for number, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def _encoded(client: Client, inputs: Sequence[str | list[int]]) -> list[list[int]]:
    return [list(client.encode_text(each).ids) if isinstance(each, str) else each for each in inputs]


async def _all(client: Client, ids: Sequence[Sequence[int]]) -> list[list[float]]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(each: Sequence[int]) -> list[float]:
        async with gate:
            return await client.embed(each)

    return await gather_all(map(one, ids))


def _shown(vector: list[float], form: str) -> list[float] | str:
    """base64 is that of 32-bit floats, little-endian."""
    if form == "float":
        return vector
    raw = array.array("f", vector)
    if sys.byteorder == "big":
        raw.byteswap()
    return base64.b64encode(raw.tobytes()).decode()
