"""What is wrong with a request is told of the field as it was sent, and in words that programs look for."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest
from support.gateway import MODEL, serving

from swarm.errors import PromptTooLong, UsageFault
from swarm.gateway.anthropic.requests import MessagesRequest
from swarm.gateway.http.errors import FieldFault, refusal_of
from swarm.gateway.http.fields import read_fields
from swarm.gateway.openai.requests import ChatRequest, CompletionRequest
from swarm.gateway.responses.requests import ResponseRequest


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("model", "change", "field"),
    [
        (ChatRequest, {"messages": [{"role": "system", "content": "x"}, *user([{"type": "text", "text": 5}])["messages"]]},
         "messages[1].content[0].text"),
        (ChatRequest, user(5), "messages[0].content"),
        (ChatRequest, user([{"text": "x"}]), "messages[0].content[0].type"),
        (ChatRequest, {}, "messages"),
        (ChatRequest, {"messages": [{"role": "us", "content": "x"}]}, "messages[0].role"),
        (ChatRequest, user("x") | {"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
        (ChatRequest, user("x") | {"stop": ["a", 1]}, "stop[1]"),
        (ChatRequest, user("x") | {"response_format": {"type": "odd"}}, "response_format.type"),
        (ChatRequest, {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": 5}}]}]},
         "messages[0].tool_calls[0].function.arguments"),
        (CompletionRequest, {"prompt": [1, "a"]}, "prompt[0]"),
        (CompletionRequest, {"prompt": [[1], [1, "a"]]}, "prompt[1][1]"),
        (MessagesRequest, user([{"type": "text", "text": 5}]) | {"max_tokens": 1}, "messages[0].content[0].text"),
        (MessagesRequest, user("x") | {"max_tokens": 1, "system": [{"text": "x"}]}, "system[0].type"),
        (ResponseRequest, {"input": [{"type": "function_call", "arguments": 5}]}, "input[0].arguments"),
        (ResponseRequest, {"input": [{"role": "user", "content": [{"type": "input_text", "text": {}}]}]},
         "input[0].content[0].text"),
    ],
)  # fmt: skip
def test_the_field_is_named_as_it_was_sent(model: Any, change: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldFault) as refused:
        read_fields(model, {"model": "m", **change})
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")


# As pi's isContextOverflow, litellm's is_error_str_context_window_exceeded and Claude Code look for them.
OPENAIS = (r"maximum context length is \d+ tokens", r"(?i)reduce the length of the messages")
LITELLMS = "this model's maximum context length is"
ANTHROPICS = r"prompt is too long[^0-9]*(\d+)\s*tokens?\s*>\s*(\d+)"


@pytest.mark.parametrize("tokens", [2048, 5000])
def test_programs_know_a_prompt_that_is_too_long(tokens: int) -> None:
    refusal = refusal_of(PromptTooLong("too long", tokens, 2048))
    message = refusal.openai()["error"]["message"]
    assert all(re.search(each, message) for each in OPENAIS)
    assert LITELLMS in message.lower()
    found = re.search(ANTHROPICS, refusal.anthropic()["error"]["message"])
    assert found
    assert int(found[1]) == tokens > int(found[2])


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("/v1/chat/completions", user("x " * 3000), "messages"),
        ("/v1/completions", {"prompt": "x " * 3000}, "prompt"),
        ("/v1/embeddings", {"input": "x " * 3000}, "input"),
        ("/v1/responses", {"input": "x " * 3000}, "input"),
        ("/v1/completions", {"prompt": [10**9]}, "prompt"),
        ("/v1/completions", {"prompt": [[]]}, "prompt"),
        ("/v1/embeddings", {"input": [[-1]]}, "input"),
        ("/v1/completions", {"prompt": "x", "stop": "x" * 10_000}, "stop"),
        ("/v1/completions", {"prompt": "x", "logit_bias": {"5": 1000}}, "logit_bias"),
        ("/v1/completions", {"prompt": "x", "logit_bias": {"99999": 1}}, "logit_bias"),
    ],
)  # fmt: skip
def test_every_refusal_names_a_field(path: str, change: dict[str, Any], param: str) -> None:
    async def main() -> None:
        async with serving() as served, httpx.AsyncClient(base_url=served.url, timeout=30) as http:
            answer = await http.post(path, json={"model": MODEL, "max_tokens": 1, **change})
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, param), error

    asyncio.run(main())


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("top_p must be a number", "top_p"),
        ("a token of logit_bias must be", "logit_bias"),
        ("n is 17", "n"),
        ("no", None),
    ],
)
def test_faults_of_the_clients_own_begin_with_their_option(message: str, param: str | None) -> None:
    assert refusal_of(UsageFault(message)).param == param
