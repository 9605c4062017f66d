"""OpenAI's API, asked by OpenAI's own package, over the demo model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpx
import openai
import pytest
from support.gateway import MODEL, Served, openai_asking, run_asking

from swarm.client import Client

T = TypeVar("T")
ASKED: list[Any] = [{"role": "user", "content": "a function that adds two numbers"}]


def run(work: Callable[[openai.AsyncOpenAI, Served], Coroutine[Any, Any, T]], **options: Any) -> T:
    return run_asking(openai_asking, work, **options)


async def expected(served: Served, **options: Any) -> str:
    client: Client = await served.gateway.catalog.client(MODEL)
    return await client.generate(ASKED, **options).read()


def test_models_are_listed() -> None:
    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        (model,) = (await client.models.list()).data
        assert (model.id, model.owned_by) == (MODEL, "swarm")
        assert (await client.models.retrieve(MODEL)).model_extra == {"context_length": 2048, "max_model_len": 2048}
        with pytest.raises(openai.NotFoundError, match="there is no model 'other'") as refused:
            await client.models.retrieve("other")
        assert refused.value.code == "model_not_found"

    run(work)


def test_a_chat_is_what_the_client_answers() -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        answer = await client.chat.completions.create(model=MODEL, messages=ASKED, temperature=0, max_tokens=20)
        assert answer.choices[0].message.content == await expected(served, max_tokens=20)
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 20
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + 20

    run(work)


def test_a_stream_joins_to_the_same_text() -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=ASKED,
            temperature=0,
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 20
        last = chunks[-2].choices[0]
        assert (last.delta.content, last.finish_reason) == (None, "length")
        told = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
        assert told == await expected(served, max_tokens=20)

    run(work)


def test_a_stream_without_usage_has_none() -> None:
    async def work(_: openai.AsyncOpenAI, served: Served) -> None:
        body = {"model": MODEL, "messages": ASKED, "max_tokens": 3, "stream": True, "seed": None, "unknown": 1}
        async with httpx.AsyncClient() as http:
            answer = await http.post(f"{served.url}/v1/chat/completions", json=body)
        lines = [line for line in answer.text.split("\n\n") if line]
        assert lines[-1] == "data: [DONE]"
        assert all("usage" not in json.loads(line.removeprefix("data: ")) for line in lines[:-1])
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-request-id"]

    run(work)


def test_several_choices_with_probabilities() -> None:
    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        options: dict[str, Any] = {"n": 2, "seed": 5, "max_tokens": 6, "logprobs": True, "top_logprobs": 3}
        answer = await client.chat.completions.create(model=MODEL, messages=ASKED, **options)
        first, second = answer.choices
        assert first.message.content != second.message.content
        assert first.logprobs is not None
        assert first.logprobs.content is not None
        assert len(first.logprobs.content) == 6
        assert len(first.logprobs.content[0].top_logprobs) == 3
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True, **options)
        texts = ["", ""]
        count = 0
        async for chunk in stream:
            choice = chunk.choices[0]
            texts[choice.index] += choice.delta.content or ""
            count += len(choice.logprobs.content or ()) if choice.logprobs else 0
        assert texts == [first.message.content, second.message.content]
        assert count == 12

    run(work)


def test_a_tool_is_called() -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    tools: list[Any] = [{"type": "function", "function": {"name": "add", "parameters": schema}}]

    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        options: dict[str, Any] = {"tools": tools, "tool_choice": "required", "max_tokens": 200, "temperature": 0}
        answer = await client.chat.completions.create(model=MODEL, messages=ASKED, **options)
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert call.type == "function"
        assert call.function.name == "add"
        assert json.loads(call.function.arguments)["a"] in (1, 2)
        deltas = [
            delta
            async for chunk in await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True, **options)
            for delta in chunk.choices[0].delta.tool_calls or ()
        ]
        assert [delta.index for delta in deltas] == [0] * len(deltas)
        assert [delta.function.name for delta in deltas if delta.function and delta.function.name] == ["add"]
        joined = "".join(delta.function.arguments or "" for delta in deltas if delta.function)
        assert joined == call.function.arguments
        answered = [
            *ASKED,
            choice.message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "3"},
        ]
        await client.chat.completions.create(model=MODEL, messages=answered, tools=tools, max_tokens=2)

    run(work)


def test_an_answer_is_json_of_a_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"], "additionalProperties": False}
    form: Any = {"type": "json_schema", "json_schema": {"name": "letter", "schema": schema, "strict": True}}

    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        answer = await client.chat.completions.create(
            model=MODEL, messages=ASKED, response_format=form, max_tokens=100, temperature=0
        )
        assert json.loads(answer.choices[0].message.content or "") == {"a": "x"}
        assert answer.choices[0].finish_reason == "stop"

    run(work)


def test_completions() -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        options: dict[str, Any] = {"model": MODEL, "max_tokens": 6, "temperature": 0}
        answer = await client.completions.create(prompt=["def add", "import "], echo=True, **options)
        assert [choice.text[:7] for choice in answer.choices] == ["def add", "import "]
        assert [choice.index for choice in answer.choices] == [0, 1]
        ids = (await served.gateway.catalog.client(MODEL)).text.encode("def add", add_special=True)
        again = await client.completions.create(prompt=ids, logprobs=2, **options)
        assert "def add" + again.choices[0].text == answer.choices[0].text
        assert again.choices[0].logprobs is not None
        assert len(again.choices[0].logprobs.tokens or ()) == 6
        stream = await client.completions.create(prompt="def add", stream=True, **options)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == again.choices[0].text

    run(work)


def test_embeddings() -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        texts = ["def add(a, b):", "import os", "x" * 900]
        encoded = (await client.embeddings.create(model=MODEL, input=texts)).data  # base64 by default
        plain = (await client.embeddings.create(model=MODEL, input=texts, encoding_format="float")).data
        assert [len(each.embedding) for each in plain] == [128] * 3
        for one, other in zip(encoded, plain, strict=True):
            assert one.embedding == pytest.approx(other.embedding, abs=1e-7)
            assert sum(x * x for x in one.embedding) == pytest.approx(1.0, abs=1e-5)
        assert plain[0].embedding != plain[1].embedding
        ids = (await served.gateway.catalog.client(MODEL)).text.encode(texts[0], add_special=True)
        again = (await client.embeddings.create(model=MODEL, input=ids, encoding_format="float")).data
        assert again[0].embedding == plain[0].embedding
        for wrong in ({"input": ""}, {"input": []}, {"input": "x", "dimensions": 5}, {"input": [99999]}):
            with pytest.raises(openai.BadRequestError):
                await client.embeddings.create(model=MODEL, **wrong)

    run(work)


@pytest.mark.parametrize(
    ("change", "status", "words", "param"),
    [
        ({"model": "other"}, 404, "there is no model 'other'", "model"),
        ({"messages": []}, 400, "messages: List should have at least 1 item", "messages"),
        ({"temperature": 3}, 400, "temperature", "temperature"),
        ({"temperature": "hot"}, 400, "temperature", "temperature"),
        ({"n": 100}, 400, "n: ", "n"),
        ({"stop": [str(number) for number in range(65)]}, 400, "at most 64 stops", "stop"),
        ({"top_logprobs": 3}, 400, "needs logprobs", "top_logprobs"),
        ({"audio": {}}, 400, "audio cannot be honoured", "audio"),
        ({"modalities": ["audio"]}, 400, "text is all", "modalities"),
        ({"tool_choice": "required"}, 400, "there are no tools", "tool_choice"),
        ({"logit_bias": {"x": 1}}, 400, "no token id", "logit_bias"),
        ({"logit_bias": {"99999": 1}}, 400, "the vocabulary has 4096", "logit_bias"),
        ({"response_format": {"type": "json_schema"}}, 400, "json_schema is missing", "response_format.json_schema"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "reads text only", "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": "x " * 4000}]}, 400, "maximum context length is", "messages"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(
    change: dict[str, Any], status: int, words: str, param: str | None
) -> None:
    async def work(_: openai.AsyncOpenAI, served: Served) -> None:
        async with httpx.AsyncClient() as http:
            body = {"model": MODEL, "messages": ASKED, "max_tokens": 2, **change}
            answer = await http.post(f"{served.url}/v1/chat/completions", json=body)
        error = answer.json()["error"]
        assert answer.status_code == status
        assert words in error["message"]
        assert error["param"] == param

    run(work)


def test_a_prompt_that_is_too_long_has_its_code() -> None:
    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.completions.create(model=MODEL, prompt=[5] * 5000)
        assert refused.value.code == "context_length_exceeded"

    run(work)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    async def work(_: openai.AsyncOpenAI, served: Served) -> None:
        async with httpx.AsyncClient() as http:
            answer = await http.post(f"{served.url}/v1/chat/completions", content=body)
        assert answer.status_code == 400
        assert "no JSON" in answer.json()["error"]["message"]

    run(work)


def test_a_key_is_asked_for() -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        with pytest.raises(openai.AuthenticationError, match="not known here"):
            await client.models.list()
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{served.url}/v1/models")).status_code == 401
        known = client.with_options(api_key="known")
        assert [model.id for model in (await known.models.list()).data] == [MODEL]

    run(work, keys=("other", "known"))


def test_who_leaves_ends_the_answer() -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        stream = await client.chat.completions.create(
            model=MODEL, messages=ASKED, max_tokens=1000, stream=True, extra_body={"ignore_eos": True}
        )
        await anext(aiter(stream))
        (answer,) = (await served.gateway.catalog.client(MODEL))._answers
        await stream.close()
        await asyncio.wait_for(answer.ended.wait(), 20)
        assert len(answer.token_ids) < 1000

    run(work)
