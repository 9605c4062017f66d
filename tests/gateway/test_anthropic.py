"""Anthropic's Messages API, asked by Anthropic's own package, over the demo model."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import anthropic
import pytest
from pydantic import BaseModel
from support.gateway import MODEL, Served, run_asking
from support.probe import make_probe

from swarm.gateway.anthropic.requests import MessagesRequest
from swarm.gateway.http.errors import FieldFault

T = TypeVar("T")
ASKED: list[Any] = [{"role": "user", "content": "a function that adds two numbers"}]
GREEDY = {"temperature": 0}  # the package has no name for it any more
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
ADD: Any = {
    "name": "add",
    "description": "Adds",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"],
        "additionalProperties": False,
    },
}


def run(work: Callable[[anthropic.AsyncAnthropic, Served], Coroutine[Any, Any, T]], **options: Any) -> T:
    def asking(url: str) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(base_url=url, api_key="right", max_retries=0)

    return run_asking(asking, work, **options)


class Said(BaseModel):
    said: str


def test_an_answer_is_held_to_the_format_that_was_asked_for(tmp_path: Path) -> None:
    async def work(client: anthropic.AsyncAnthropic, _: Served) -> None:
        asked: dict[str, Any] = {"model": "probe", "messages": ASKED, "max_tokens": 60}
        assert (await client.messages.parse(output_format=Said, **asked)).parsed_output == Said(said="")
        form = {"type": "json_schema", "schema": Said.model_json_schema()}
        first = await client.messages.create(**asked, extra_body={"output_format": form})
        assert [block.text for block in first.content if block.type == "text"] == ['{"said":""}']
        with pytest.raises(anthropic.BadRequestError, match=r"output_config.format"):
            await client.messages.create(**asked, extra_body={"output_config": {"format": {"type": "lark"}}})

    run(work, paths=(make_probe(tmp_path / "probe", {}),))


def test_tools_of_servers_are_refused_and_thinking_is_told_to_templates_that_ask() -> None:
    body: dict[str, Any] = {"model": MODEL, "messages": ASKED, "max_tokens": 4}

    def variables(**more: Any) -> Any:
        return dict(MessagesRequest.model_validate(body | more).plain("").variables)

    assert variables() == {}
    assert variables(thinking={"type": "disabled"}) == {"enable_thinking": False}
    assert variables(thinking={"type": "adaptive"}) == {"enable_thinking": True}
    assert variables(thinking={"type": "enabled", "budget_tokens": 1024}) == {"enable_thinking": True}
    with pytest.raises(FieldFault, match="mcp_servers"):
        variables(mcp_servers=[{"type": "url", "url": "https://example.com", "name": "x"}])


def test_models_are_listed_in_anthropics_words() -> None:
    async def work(client: anthropic.AsyncAnthropic, served: Served) -> None:
        page = await client.models.list()
        (model,) = page.data
        assert (model.type, model.id, model.display_name, page.has_more) == ("model", MODEL, MODEL, False)
        assert model.created_at.timestamp() == (await served.gateway.catalog.card(MODEL)).created
        assert (page.first_id, page.last_id, model.max_input_tokens) == (MODEL, MODEL, 2048)
        assert await client.models.retrieve(MODEL) == model
        with pytest.raises(anthropic.NotFoundError) as refused:
            await client.models.retrieve("other")
        assert refused.value.body["type"] == "error"  # type: ignore[index]

    run(work)


def test_a_message_and_its_stream() -> None:
    async def work(client: anthropic.AsyncAnthropic, served: Served) -> None:
        options: dict[str, Any] = {"model": MODEL, "messages": ASKED, "max_tokens": 20, "extra_body": GREEDY}
        answer = await client.messages.create(**options)
        expected = (await served.gateway.catalog.client(MODEL)).generate(ASKED, max_tokens=20)
        (block,) = answer.content
        assert block.type == "text"
        assert block.text == await expected.read()
        assert (answer.stop_reason, answer.role) == ("max_tokens", "assistant")
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (len(expected.prompt_ids), 20)
        async with client.messages.stream(**options) as stream:
            assert "".join([text async for text in stream.text_stream]) == block.text
            final = await stream.get_final_message()
        assert [each.type for each in final.content] == ["text"]
        assert final.stop_reason == "max_tokens"
        assert final.usage.output_tokens == 20
        count = await client.messages.count_tokens(model=MODEL, messages=ASKED)
        assert count.input_tokens == answer.usage.input_tokens

    run(work, keys=("right",))


def test_a_stop_is_named() -> None:
    async def work(client: anthropic.AsyncAnthropic, _: Served) -> None:
        answer = await client.messages.create(
            model=MODEL, messages=ASKED, max_tokens=60, extra_body=GREEDY, stop_sequences=["(", "zzz"]
        )
        assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "(")

    run(work)


def test_a_tool_is_used_and_its_result_taken() -> None:
    async def work(client: anthropic.AsyncAnthropic, _: Served) -> None:
        options: dict[str, Any] = {
            "model": MODEL,
            "max_tokens": 200,
            "tools": [ADD],
            "system": [{"type": "text", "text": "Be brief."}],
            "extra_body": GREEDY,
        }
        answer = await client.messages.create(messages=ASKED, tool_choice={"type": "any"}, **options)
        (block,) = answer.content
        assert block.type == "tool_use"
        assert block.name == "add"
        assert block.input["a"] in (1, 2)  # type: ignore[index]
        assert answer.stop_reason == "tool_use"
        async with client.messages.stream(
            messages=ASKED, tool_choice={"type": "tool", "name": "add"}, **options
        ) as stream:
            (streamed,) = (await stream.get_final_message()).content
        assert streamed.type == "tool_use"
        assert streamed.input == block.input
        result = {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "3"}]}
        talk = [*ASKED, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        await client.messages.create(messages=talk, **{**options, "max_tokens": 2})

    run(work)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": "other"}, anthropic.NotFoundError, "there is no model"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, anthropic.BadRequestError, "text only"),
        ({"tools": [SEARCH], "tool_choice": {"type": "any"}}, anthropic.BadRequestError, "a server runs"),
        ({"tool_choice": {"type": "tool", "name": "sub"}, "tools": [ADD]}, anthropic.BadRequestError, "names 'sub'"),
    ],
)  # fmt: skip
def test_refusals_are_in_anthropics_words(
    change: dict[str, Any], error: type[anthropic.APIStatusError], words: str
) -> None:
    async def work(client: anthropic.AsyncAnthropic, _: Served) -> None:
        with pytest.raises(error, match=words) as refused:
            await client.messages.create(**{"model": MODEL, "messages": ASKED, "max_tokens": 2, **change})
        body = json.loads(refused.value.response.text)
        assert body["type"] == "error"
        assert body["error"]["type"] in ("not_found_error", "invalid_request_error")

    run(work)


def test_an_answer_goes_on_from_its_beginning() -> None:
    async def work(client: anthropic.AsyncAnthropic, served: Served) -> None:
        talk = [*ASKED, {"role": "assistant", "content": "def add("}]
        answer = await client.messages.create(model=MODEL, messages=talk, max_tokens=5, extra_body=GREEDY)
        demo = await served.gateway.catalog.client(MODEL)
        prompt = demo.text.encode(demo.text.render_chat(ASKED) + "def add(", add_special=False)
        (block,) = answer.content
        assert block.type == "text"
        assert block.text == await demo.generate(prompt, max_tokens=5).read()

    run(work)
