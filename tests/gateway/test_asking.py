"""Requests made plain: prompts, tools, grammars, probabilities; turns and what they tell."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from swarm.client import Client
from swarm.engine.sampler import Sampling
from swarm.errors import PromptTooLong, UsageFault
from swarm.gateway.ask import Ask, Held
from swarm.gateway.asking import Asking
from swarm.gateway.turns import Delta, ToldCall, ToldText, Turn, usage_of

T = TypeVar("T")
ASK = Ask("demo", messages=({"role": "user", "content": "a function that adds"},), max_tokens=12)
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


def run(work: Callable[[Client, Asking], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        async with Client("demo", local=True) as client:
            return await work(client, Asking())

    return asyncio.run(main())


async def told(turn: Turn) -> list[Delta]:
    return [delta async for delta in turn]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, ToldText))


def test_a_turn_tells_what_the_client_answers() -> None:
    async def work(client: Client, asking: Asking) -> None:
        async with asking.turns(client, ASK) as (turn,):
            deltas = await told(turn)
        expected = client.generate([dict(message) for message in ASK.messages or ()], max_tokens=12)
        assert text_of(deltas) == await expected.read()
        assert turn.finish_reason == expected.finish_reason == "length"
        usage = usage_of([turn])
        assert (usage.prompt, usage.completion, usage.cached) == (len(expected.prompt_ids), 12, 0)
        assert await asking.count(client, ASK) == usage.prompt

    run(work)


def test_choices_differ_and_are_the_same_again() -> None:
    ask = Ask("demo", prompt="def ", max_tokens=8, choices=3, sampling=Sampling(temperature=1.0, seed=3))

    async def once(client: Client, asking: Asking) -> list[str]:
        async with asking.turns(client, ask) as turns:
            return [text_of(deltas) for deltas in await asyncio.gather(*map(told, turns))]

    async def work(client: Client, asking: Asking) -> None:
        first = await once(client, asking)
        assert len(set(first)) > 1
        assert await once(client, asking) == first

    run(work)


def test_probabilities_are_told_with_each_token() -> None:
    async def work(client: Client, asking: Asking) -> None:
        async with asking.turns(client, Ask("demo", prompt="def ", max_tokens=5, top_logprobs=2)) as (turn,):
            deltas = await told(turn)
        tokens = [token for delta in deltas if isinstance(delta, ToldText) for token in delta.tokens]
        assert [token.id for token in tokens] == turn.answer.token_ids
        for token in tokens:
            assert token.logprob <= 0
            assert token.top[0][0] == token.id, "greedy"
            assert len(token.top) == 2
            assert math.isclose(token.top[0][2], token.logprob)

    run(work)


@pytest.mark.parametrize("choice", ["required", ("add",)])
def test_a_call_can_be_demanded(choice: Any) -> None:
    async def work(client: Client, asking: Asking) -> None:
        ask = Ask("demo", messages=ASK.messages, tools=(ADD,), tool_choice=choice, max_tokens=100)
        async with asking.turns(client, ask) as (turn,):
            deltas = await told(turn)
        (call,) = (delta for delta in deltas if isinstance(delta, ToldCall))
        assert (call.index, call.name) == (0, "add")
        assert json.loads(call.arguments)["a"] in (1, 2)
        assert text_of(deltas) == ""
        assert turn.finish_reason == "tool_calls"

    run(work)


def test_an_answer_is_held_to_a_schema() -> None:
    schema = ADD["function"]["parameters"]

    async def work(client: Client, asking: Asking) -> None:
        ask = Ask("demo", messages=ASK.messages, held=Held("json_schema", schema), max_tokens=100)
        async with asking.turns(client, ask) as (turn,):
            assert json.loads(text_of(await told(turn)))["a"] in (1, 2)
        assert turn.finish_reason == "stop"

    run(work)


def test_a_conversation_with_calls_is_a_prompt() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = (
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
    )

    async def work(client: Client, asking: Asking) -> None:
        async with asking.turns(client, Ask("demo", messages=messages, tools=(ADD,), max_tokens=2)) as (turn,):
            await told(turn)
        prompt = client.text.tokenizer.decode(turn.answer.prompt_ids, skip_special_tokens=False)
        assert '"arguments": {"a": 1}' in prompt
        assert "<tool_response>\n3" in prompt

    run(work)


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (Ask("demo"), UsageFault, "neither a prompt nor messages"),
        (Ask("demo", prompt="x", choices=17), UsageFault, "n is 17"),
        (Ask("demo", prompt="x", held=Held("regex", "[")), UsageFault, "regex cannot be honoured"),
        (Ask("demo", messages=ASK.messages, tools=(ADD,), tool_choice=("sub",)), UsageFault, "names 'sub'"),
        (Ask("demo", prompt=(5,) * 100_000), PromptTooLong, "100000 tokens"),
    ],
)
def test_what_cannot_be_honoured_is_said(ask: Ask, error: type[Exception], words: str) -> None:
    async def work(client: Client, asking: Asking) -> None:
        with pytest.raises(error, match=words):
            async with asking.turns(client, ask):
                pass

    run(work)
