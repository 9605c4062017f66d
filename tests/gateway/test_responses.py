"""The Responses API, asked by OpenAI's own package, over the demo model."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import openai
import pytest
from support.gateway import MODEL, Served, openai_asking, run_asking

from swarm.gateway.responses.store import MAX_STORED, ResponseStore, UnknownResponse

T = TypeVar("T")
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0}
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
ADD: Any = {"type": "function", "name": "add", "description": "Adds", "parameters": SCHEMA, "strict": True}


def run(work: Callable[[openai.AsyncOpenAI, Served], Coroutine[Any, Any, T]], **options: Any) -> T:
    return run_asking(openai_asking, work, **options)


def test_a_response_and_its_stream() -> None:
    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        whole = await client.responses.create(input="a function that adds", max_output_tokens=12, **GREEDY)
        assert whole.status == "incomplete"
        assert whole.incomplete_details is not None
        assert whole.incomplete_details.reason == "max_output_tokens"
        assert whole.usage is not None
        assert whole.usage.output_tokens == 12
        stream = await client.responses.create(
            input="a function that adds", max_output_tokens=12, stream=True, store=False, **GREEDY
        )
        events = [event async for event in stream]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        kinds = [event.type for event in events]
        assert kinds[:4] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
        ]
        assert kinds[-1] == "response.incomplete"
        told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert told == whole.output_text == events[-1].response.output_text  # type: ignore[union-attr]

    run(work)


def test_a_conversation_goes_on_from_what_is_stored() -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        first = await client.responses.create(input="add", instructions="Be brief.", max_output_tokens=4, **GREEDY)
        second = await client.responses.create(
            input="more", previous_response_id=first.id, max_output_tokens=4, **GREEDY
        )
        talk = [
            {"role": "user", "content": "add"},
            {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "more"},
        ]
        demo = await served.gateway.catalog.client(MODEL)
        assert second.output_text == await demo.generate(talk, max_tokens=4).read()
        assert (await client.responses.retrieve(second.id)).output_text == second.output_text
        (item,) = (await client.responses.input_items.list(second.id)).data
        assert item.content == "more" or item.content[0].text == "more"  # type: ignore[union-attr,index]
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError, match="no response"):
            await client.responses.create(input="x", previous_response_id=first.id, **GREEDY)
        kept = await client.responses.create(input="x", store=False, max_output_tokens=1, **GREEDY)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(kept.id)

    run(work)


def test_what_is_stored_is_its_owners() -> None:
    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        mine = await client.responses.create(input="add", max_output_tokens=2, **GREEDY)
        with pytest.raises(openai.NotFoundError):
            await client.with_options(api_key="b").responses.retrieve(mine.id)
        assert (await client.responses.retrieve(mine.id)).id == mine.id

    run(work, keys=("right", "b"))


def test_a_function_is_called_and_its_output_taken() -> None:
    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        options: dict[str, Any] = {"tools": [ADD], "max_output_tokens": 200, **GREEDY}
        answer = await client.responses.create(input="add", tool_choice="required", **options)
        (call,) = answer.output
        assert call.type == "function_call"
        assert call.name == "add"
        assert json.loads(call.arguments)["a"] in (1, 2)
        assert answer.status == "completed"
        stream = await client.responses.create(input="add", tool_choice="required", stream=True, **options)
        done = [event async for event in stream if event.type == "response.function_call_arguments.done"]
        assert [event.arguments for event in done] == [call.arguments]
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
        await client.responses.create(
            input=[result], previous_response_id=answer.id, **{**options, "max_output_tokens": 2}
        )

    run(work)


def test_a_schema_is_kept_to() -> None:
    form: Any = {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}}

    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        answer = await client.responses.create(input="x", text=form, max_output_tokens=100, **GREEDY)
        assert json.loads(answer.output_text)["a"] in (1, 2)

    run(work)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "web_search, which a server runs"),
        ({"tools": [ADD], "tool_choice": {"type": "web_search"}}, "'web_search', which cannot be run"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "name": "sub"}}, "names 'sub'"),
        ({"input": []}, "input"),
        ({"input": [{"type": "odd"}]}, "not known here; leave it out"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "text only"),
        ({"tool_choice": "required"}, "there are no tools"),
    ],
)
def test_what_cannot_be_honoured_is_refused(change: dict[str, Any], words: str) -> None:
    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        with pytest.raises(openai.BadRequestError, match=words):
            await client.responses.create(**{"model": MODEL, "input": "x", **change})

    run(work)


def test_the_store_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResponseStore()
    for number in range(MAX_STORED + 1):
        store.put("", {"id": str(number)}, ({"content": "x"},), ())
    store.get("", "1")
    with pytest.raises(UnknownResponse):
        store.get("", "0")
    monkeypatch.setattr("swarm.gateway.responses.store.MAX_STORED_CHARACTERS", 100)
    store.put("", {"id": "long"}, ({"content": "x" * 90},), ())
    store.get("", "long")
    with pytest.raises(UnknownResponse):
        store.get("", "1")


def test_probabilities_of_a_response() -> None:
    async def work(client: openai.AsyncOpenAI, _: Served) -> None:
        options: dict[str, Any] = {"input": "add", "max_output_tokens": 6, "top_logprobs": 2, **GREEDY}
        (item,) = (await client.responses.create(**options)).output
        whole = item.content[0].logprobs  # type: ignore[union-attr]
        assert [len(each.top_logprobs) for each in whole] == [2] * 6  # type: ignore[union-attr]
        stream = await client.responses.create(stream=True, **options)
        events = [
            event async for event in stream if event.type in ("response.output_text.delta", "response.output_text.done")
        ]
        assert sum(len(event.logprobs) for event in events[:-1]) <= 6
        assert [each.token for each in events[-1].logprobs] == [each.token for each in whole]  # type: ignore[union-attr]

    run(work)
