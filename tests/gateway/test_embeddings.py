"""`POST /v1/embeddings` of an encoder, by OpenAI's own package; whatever would have it write text is refused in words."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from support.embedders import bert_tokenizer, make_embedder, oracle_rows
from support.families_classics import CONFIGS
from support.gateway import DEMO, Served, serving
from support.oracles import make_oracle_model
from support.swarm import LocalSwarm
from support.tokenizers import write_text_files

from swarm.client import Client

TEXTS = ["The quick brown fox", "the dog sleeps; the fox does not", "fox " * 200]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("models") / "bert", "mean_tokens", unit=True)


def run(model: Path, work: Callable[[openai.AsyncOpenAI, Served], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        made = options.pop("make_client", lambda path: Client(path, local=True, precision="fp32"))
        async with (
            serving(made, paths=(model, DEMO), **options) as served,
            openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client,
        ):
            await work(client, served)

    asyncio.run(main())


def test_vectors_are_those_of_the_oracle_s_rows(model: Path) -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        assert sorted(each.id for each in (await client.models.list()).data) == ["bert", "demo"]
        answer = await client.embeddings.create(model="bert", input=TEXTS, encoding_format="float", dimensions=64)
        ids = [bert_tokenizer().encode(text).ids for text in TEXTS]
        assert answer.usage.prompt_tokens == sum(map(len, ids))
        for own, each in zip(ids, answer.data, strict=True):
            mean = oracle_rows(model, own).mean(0)
            assert torch.allclose(torch.tensor(each.embedding), mean / mean.norm(), atol=1e-5)
        packed = await client.embeddings.create(model="bert", input=ids)  # base64 by default
        for one, other in zip(packed.data, answer.data, strict=True):
            assert one.embedding == pytest.approx(other.embedding, abs=1e-7)

    run(model, work)


def test_a_chain_gives_the_same(model: Path) -> None:
    async def main() -> None:
        async with Client(model, local=True, precision="fp32") as alone, LocalSwarm(model, [(0, 2), (2, 3)]) as swarm:
            expected = [await alone.embed(text) for text in TEXTS]
            async with (
                serving(lambda _: swarm.client(), directory=swarm.records, paths=(model,)) as served,
                httpx.AsyncClient(base_url=served.url, timeout=30) as http,
            ):
                (listed,) = (await http.get("/v1/models")).json()["data"]
                asked = {"model": listed["id"], "input": TEXTS}
                reply = (await http.post("/v1/embeddings", json=asked)).json()
                assert [each["embedding"] for each in reply["data"]] == expected

    asyncio.run(main())


def test_what_is_wrong_is_said(model: Path) -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        for wrong, said in (
            ({"input": "x", "dimensions": 5}, "dimensions: this model's vectors have 64"),
            ({"input": [5] * 301}, "maximum context length is 300 tokens.*301 tokens"),
            ({"input": [99999]}, "token id 99999 is outside the vocabulary"),
        ):
            with pytest.raises(openai.BadRequestError, match=said):
                await client.embeddings.create(model="bert", **wrong)  # type: ignore[arg-type]

    run(model, work)


def test_vectors_of_a_decoder_whose_embedding_is_narrower_than_its_rows(tmp_path: Path) -> None:
    opt = make_oracle_model(tmp_path / "opt", CONFIGS["opt-norms-of-sums"])
    write_text_files(opt, bert_tokenizer())

    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        answer = await client.embeddings.create(model="opt", input=[[5, 6, 7]], encoding_format="float", dimensions=48)
        assert len(answer.data[0].embedding) == 48
        with pytest.raises(openai.BadRequestError, match="this model's vectors have 48"):
            await client.embeddings.create(model="opt", input=[[5, 6, 7]], dimensions=64)

    run(opt, work)


def test_an_encoder_writes_no_text_by_any_api(model: Path) -> None:
    asked: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
        "/v1/completions": {"prompt": "hello"},
        "/v1/responses": {"input": "hello"},
        "/v1/messages": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5},
    }

    async def work(_: openai.AsyncOpenAI, served: Served) -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=30) as http:
            for path, body in asked.items():
                for stream in (False, True):
                    reply = await http.post(path, json={"model": "bert", "stream": stream, **body})
                    assert reply.status_code == 400, path
                    assert "bert is an encoder" in reply.json()["error"]["message"]
                    assert "POST /v1/embeddings" in reply.json()["error"]["message"]

    run(model, work)


def test_a_decoder_s_vectors_have_length_1_as_before(model: Path) -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        (one,) = (await client.embeddings.create(model="demo", input="import os", encoding_format="float")).data
        assert math.hypot(*one.embedding) == pytest.approx(1.0, abs=1e-5)

    run(model, work)
