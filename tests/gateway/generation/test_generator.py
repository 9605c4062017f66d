"""Requests made plain: prompts, tools, grammars, probabilities; choices and what they tell."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from swarm.client import Client
from swarm.errors import PromptTooLong, UsageFault
from swarm.gateway.generation.choice import Choice, Delta, ToldCall, ToldMore, ToldText, usage_of
from swarm.gateway.generation.generator import Generator
from swarm.gateway.generation.request import GenerationRequest, Held
from swarm.sampling import Sampling

T = TypeVar("T")
REQUEST = GenerationRequest("demo", messages=({"role": "user", "content": "a function that adds"},), max_tokens=12)
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"enum": [1, 2]}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}


def run(work: Callable[[Client, Generator], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        async with Client("demo", local=True) as client:
            return await work(client, Generator())

    return asyncio.run(main())


async def told(choice: Choice) -> list[Delta]:
    return [delta async for delta in choice]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, ToldText))


def test_a_turn_tells_what_the_client_answers() -> None:
    async def work(client: Client, generator: Generator) -> None:
        async with generator.choices(client, REQUEST) as (choice,):
            deltas = await told(choice)
        expected = client.generate([dict(message) for message in REQUEST.messages or ()], max_tokens=12)
        assert text_of(deltas) == await expected.read()
        assert choice.finish_reason == expected.finish_reason == "length"
        usage = usage_of([choice])
        assert (usage.prompt, usage.completion, usage.cached) == (len(expected.prompt_ids), 12, 0)
        assert await generator.count(client, REQUEST) == usage.prompt

    run(work)


def test_choices_differ_and_are_the_same_again() -> None:
    request = GenerationRequest(
        "demo", prompt="def ", max_tokens=8, choices=3, sampling=Sampling(temperature=1.0, seed=3)
    )

    async def once(client: Client, generator: Generator) -> list[str]:
        async with generator.choices(client, request) as choices:
            return [text_of(deltas) for deltas in await asyncio.gather(*map(told, choices))]

    async def work(client: Client, generator: Generator) -> None:
        first = await once(client, generator)
        assert len(set(first)) > 1
        assert await once(client, generator) == first

    run(work)


def test_probabilities_are_told_with_each_token() -> None:
    async def work(client: Client, generator: Generator) -> None:
        request = GenerationRequest("demo", prompt="def ", max_tokens=5, top_logprobs=2)
        async with generator.choices(client, request) as (choice,):
            deltas = await told(choice)
        tokens = [token for delta in deltas if isinstance(delta, ToldText) for token in delta.tokens]
        assert [token.id for token in tokens] == choice.answer.token_ids
        for token in tokens:
            assert token.logprob <= 0
            assert token.top[0][0] == token.id, "greedy"
            assert len(token.top) == 2
            assert math.isclose(token.top[0][2], token.logprob)

    run(work)


@pytest.mark.parametrize("tool_choice", ["required", ("add",)])
def test_a_call_can_be_demanded(tool_choice: Any) -> None:
    async def work(client: Client, generator: Generator) -> None:
        request = GenerationRequest(
            "demo", messages=REQUEST.messages, tools=(ADD,), tool_choice=tool_choice, max_tokens=100
        )
        async with generator.choices(client, request) as (choice,):
            deltas = await told(choice)
        (call,) = (delta for delta in deltas if isinstance(delta, ToldCall))
        assert (call.index, call.name) == (0, "add")
        arguments = "".join(delta.arguments for delta in deltas if isinstance(delta, ToldCall | ToldMore))
        assert json.loads(arguments)["a"] in (1, 2)
        assert text_of(deltas) == ""
        assert choice.finish_reason == "tool_calls"

    run(work)


def test_an_answer_is_held_to_a_schema() -> None:
    schema = ADD["function"]["parameters"]

    async def work(client: Client, generator: Generator) -> None:
        request = GenerationRequest("demo", messages=REQUEST.messages, held=Held("json_schema", schema), max_tokens=100)
        async with generator.choices(client, request) as (choice,):
            assert json.loads(text_of(await told(choice)))["a"] in (1, 2)
        assert choice.finish_reason == "stop"

    run(work)


def test_a_conversation_with_calls_is_a_prompt() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = (
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
    )

    async def work(client: Client, generator: Generator) -> None:
        async with generator.choices(
            client, GenerationRequest("demo", messages=messages, tools=(ADD,), max_tokens=2)
        ) as (choice,):
            await told(choice)
        prompt = client.text.tokenizer.decode(choice.answer.prompt_ids, skip_special_tokens=False)
        assert '"arguments": {"a": 1}' in prompt
        assert "<tool_response>\n3" in prompt

    run(work)


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (GenerationRequest("demo"), UsageFault, "neither a prompt nor messages"),
        (GenerationRequest("demo", prompt="x", choices=17), UsageFault, "n is 17"),
        (GenerationRequest("demo", prompt="x", held=Held("regex", "[")), UsageFault, "regex cannot be honoured"),
        (
            GenerationRequest("demo", messages=REQUEST.messages, tools=(ADD,), tool_choice=("sub",)),
            UsageFault,
            "names 'sub'",
        ),
        (GenerationRequest("demo", prompt=(5,) * 100_000), PromptTooLong, "100000 tokens"),
    ],
)
def test_what_cannot_be_honoured_is_said(asked: GenerationRequest, error: type[Exception], words: str) -> None:
    async def work(client: Client, generator: Generator) -> None:
        with pytest.raises(error, match=words):
            async with generator.choices(client, asked):
                pass

    run(work)
