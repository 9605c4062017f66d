"""Requests as coding agents and frameworks write them, with all that they add to the plain formats."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from support.gateway import DEMO, MODEL, Served, serving

from swarm.client import Client
from swarm.gateway.generation.generator import UNASKED_TOKENS, Generator
from swarm.gateway.generation.request import GenerationRequest
from swarm.text.tokenizer import Text

T = TypeVar("T")
CACHED = {"cache_control": {"type": "ephemeral"}}
POINT = {
    "$defs": {"Point": {"type": "object", "properties": {"x": {"enum": [1]}}, "required": ["x"], "additionalProperties": False}},
    "type": "object",
    "properties": {"at": {"$ref": "#/$defs/Point"}},
    "required": ["at"],
    "additionalProperties": False,
}  # fmt: skip


def run(work: Callable[[httpx.AsyncClient, Served], Coroutine[Any, Any, T]], **options: Any) -> T:
    async def main() -> T:
        async with serving(**options) as served, httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            return await work(http, served)

    return asyncio.run(main())


def prompt_of(request: GenerationRequest, model: Path = DEMO) -> str:
    """The prompt that a request becomes."""

    async def main() -> str:
        async with Client(model, local=True) as client, Generator().choices(client, request) as (choice, *_):
            return client.text.tokenizer.decode(choice.answer.prompt_ids, skip_special_tokens=False)

    return asyncio.run(main())


def test_a_coding_agent_in_anthropics_words() -> None:
    from swarm.gateway.anthropic.requests import MessagesRequest

    body = {
        "model": MODEL,
        "max_tokens": 4,
        "metadata": {"user_id": "user_1"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "system": [{"type": "text", "text": "You code.", **CACHED}, {"type": "text", "text": "Be brief.", **CACHED}],
        "tools": [{"name": "Read", "description": "Reads", "input_schema": {"$schema": "x", "type": "object"}, **CACHED}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "read it", **CACHED}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "I need it.", "signature": "abc"},
                    {"type": "text", "text": "I read."},
                    {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}},
                    {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {"path": "b"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no such file", "is_error": True},
                    {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "words"}], **CACHED},
                    {"type": "text", "text": "go on", **CACHED},
                ],
            },
        ],
    }  # fmt: skip

    async def work(http: httpx.AsyncClient, _: Served) -> None:
        headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "some-2025", "x-api-key": "any"}
        answer = await http.post("/v1/messages?beta=true", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["request-id"]
        count = await http.post("/v1/messages/count_tokens?beta=true", json=body, headers=headers)
        usage = answer.json()["usage"]
        assert count.json()["input_tokens"] == usage["input_tokens"] + usage["cache_read_input_tokens"]

    run(work)
    prompt = prompt_of(MessagesRequest.model_validate(body).plain(""))
    assert "You code.\nBe brief." in prompt
    assert prompt.count('"arguments": {"path": ') == 2
    assert "Error: no such file" in prompt
    assert prompt.index("words") < prompt.index("go on")


def test_a_coding_agent_in_the_words_of_responses() -> None:
    from swarm.gateway.responses.requests import ResponseRequest

    body = {
        "model": MODEL,
        "instructions": "You code.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Here is where you are."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "list"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x", "content": None},
            {"type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": "I list."}]},
            {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": '{"command": "ls"}'},
            {"type": "function_call", "call_id": "c2", "name": "shell", "arguments": "{broken"},
            {"type": "function_call_output", "call_id": "c1", "output": "a"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "b"}]},
        ],
        "tools": [{"type": "function", "name": "shell", "strict": False, "parameters": {"type": "object"}}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "key",
        "max_output_tokens": 4,
    }  # fmt: skip

    async def work(http: httpx.AsyncClient, _: Served) -> None:
        answer = await http.post("/v1/responses", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.text.count("event: response.created") == 1
        assert "event: response.incomplete" in answer.text

    run(work)
    request = ResponseRequest.model_validate(body)
    messages = request.messages(())
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[2]["tool_calls"]] == ["c1", "c2"]
    assert messages[2]["content"] == "I list."
    prompt = prompt_of(request.plain(messages, ""))
    assert "You code." in prompt
    assert "Here is where you are." in prompt
    assert '{"arguments": "{broken"}' in prompt, "what a model wrote wrong does not end a conversation"


def test_messages_as_programs_write_them() -> None:
    messages = [
        {"role": "system", "content": "One."},
        {"role": "developer", "content": [{"type": "text", "text": "Two."}], "name": None},
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "assistant", "content": None, "refusal": None, "audio": None, "function_call": None, "tool_calls": None},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "again"}]},
    ]  # fmt: skip

    async def work(http: httpx.AsyncClient, _: Served) -> None:
        body = {"model": MODEL, "messages": messages, "max_completion_tokens": 2, "max_tokens": None, "user": "u",
                "reasoning_effort": "low", "service_tier": "auto", "store": False, "metadata": {"a": "b"},
                "stream_options": None, "tools": [], "stop": None, "seed": 1, "verbosity": "low"}  # fmt: skip
        answer = await http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text

    run(work)


@pytest.mark.parametrize("strict", [True, False])
def test_a_forced_call_may_have_definitions_and_what_no_grammar_knows(strict: bool) -> None:
    parameters = POINT if strict else {**POINT, "title": "P", "not": {"required": ["y"]}}
    tools = [{"type": "function", "function": {"name": "go", "strict": strict, "parameters": parameters}}]

    async def work(http: httpx.AsyncClient, _: Served) -> None:
        choice = {"type": "function", "function": {"name": "go"}}
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "go"}],
            "tools": tools,
            "tool_choice": choice,
            "max_tokens": 90,
        }
        answer = await http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"at": {"x": 1}}

    run(work)


def test_a_seed_gives_the_same_choices_again() -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]}
        held = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema | {"additionalProperties": False}}}
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "n": 3, "seed": 7, "temperature": 2}
        body |= {"max_tokens": 60, "response_format": held}
        texts = [
            [choice["message"]["content"] for choice in (await http.post("/v1/chat/completions", json=body)).json()["choices"]]
            for _ in range(2)
        ]  # fmt: skip
        assert texts[0] == texts[1]
        assert len(set(texts[0])) > 1
        assert all(len(json.loads(text)["a"]) <= 3 for text in texts[0])

    run(work)


def test_probabilities_are_of_true_bytes() -> None:
    async def work(http: httpx.AsyncClient, served: Served) -> None:
        text = (await served.gateway.catalog.client(MODEL)).text
        emoji = text.encode("😀", add_special=False)
        assert len(emoji) > 1, "none of its tokens is a character"
        body = {"model": MODEL, "prompt": "x", "max_tokens": 1, "logprobs": 1, "logit_bias": {str(emoji[0]): 100}}
        told = (await http.post("/v1/completions", json=body)).json()["choices"][0]["logprobs"]
        assert told["tokens"][0].startswith("bytes:\\x")
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "logprobs": True}
        body["logit_bias"] = {str(emoji[0]): 100}
        (entry,) = (await http.post("/v1/chat/completions", json=body)).json()["choices"][0]["logprobs"]["content"]
        assert bytes(entry["bytes"]) == text.piece(emoji[0])
        assert "😀".encode().startswith(text.piece(emoji[0]))

    run(work)


def test_offsets_of_a_streams_tokens_go_on() -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        body = {"model": MODEL, "prompt": "def ", "max_tokens": 6, "temperature": 0, "logprobs": 1}
        whole = (await http.post("/v1/completions", json=body)).json()["choices"][0]["logprobs"]["text_offset"]
        lines = (await http.post("/v1/completions", json={**body, "stream": True})).text.split("\n\n")
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line and "[DONE]" not in line]
        told = [chunk["choices"][0]["logprobs"] for chunk in chunks]
        assert [place for each in told if each for place in each["text_offset"]] == whole

    run(work)


def test_an_answer_whose_length_nobody_named_has_a_bound() -> None:
    async def main() -> None:
        async with Client(MODEL, local=True) as client:
            request = GenerationRequest(MODEL, messages=({"role": "user", "content": "x"},))
            async with Generator().choices(client, request) as (choice,):
                assert choice.answer.options.max_tokens == UNASKED_TOKENS

    asyncio.run(main())


def model_with(template: str, place: Path) -> Path:
    """The demo model with another chat template."""
    model = place / "demo"
    model.mkdir()
    for file in DEMO.iterdir():
        (model / file.name).symlink_to(file)
    (model / "chat_template.jinja").write_text(template)
    return model


THINKING = """\
{%- for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}
{{- 'assistant: <think>\\n' if thinking else 'assistant: ' }}{# …</think> #}"""


@pytest.mark.parametrize("opened", [True, False])
def test_thoughts_are_not_the_answer(opened: bool, tmp_path: Path) -> None:
    """A model with such a template, made to write its marks."""
    model = model_with(THINKING, tmp_path)
    assert Text.load(model).thinks

    async def main() -> None:
        async with Client(model, local=True) as client:
            request = GenerationRequest(
                "demo", messages=({"role": "user", "content": "x"},), max_tokens=3, variables={"thinking": opened}
            )
            async with Generator().choices(client, request) as (choice,):
                kinds = {type(delta).__name__ async for delta in choice}
            assert kinds <= ({"Thought"} if opened else {"ToldText", "Thought"})
            assert kinds

    asyncio.run(main())


ONE_SYSTEM = """\
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first %}{{ raise_exception('the system speaks first') }}{% endif %}
    {{- message.role + ': ' + message.content + '\\n' }}
{%- endfor %}"""


def test_words_of_the_systems_are_joined_for_templates_that_take_no_more(tmp_path: Path) -> None:
    model = model_with(ONE_SYSTEM, tmp_path)
    system: Any = [{"role": "system", "content": words} for words in ("One.", "Two.")]
    user: Any = {"role": "user", "content": "hi"}
    request = GenerationRequest("demo", messages=(*system, user), max_tokens=1)
    assert prompt_of(request, model) == "system: One.\n\nTwo.\nuser: hi\n"
    later = GenerationRequest("demo", messages=(user, *system), max_tokens=1)
    assert prompt_of(later, model) == "user: hi\n\nOne.\n\nTwo.\n"


def test_a_plain_prompt_is_gone_on_from_whatever_the_models_format(tmp_path: Path) -> None:
    model = model_with("{# <|channel|> <|message|> #}{{ messages[0].content }}", tmp_path)

    async def main() -> None:
        request = GenerationRequest("demo", prompt="def add(", max_tokens=3)
        async with Client(model, local=True) as client, Generator().choices(client, request) as (choice,):
            assert [delta async for delta in choice]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "odd"}}}},
         "response_format"),
        ({"tools": [{"type": "function", "function": {"name": "a", "strict": True, "parameters": {"type": "odd"}}}],
          "tool_choice": "required"}, "tools[0]"),
        ({"functions": [{"name": "a"}]}, "functions"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
    ],
)  # fmt: skip
def test_the_field_that_is_to_blame_is_named(change: dict[str, Any], param: str) -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1, **change}
        answer = await http.post("/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    run(work)
