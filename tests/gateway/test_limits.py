"""Numbers and stops as programs in other languages write them, and lines that would defeat the reuse of prompts."""

from __future__ import annotations

from typing import Any

import pytest

from swarm.gateway.anthropic.requests import CountRequest, MessagesRequest
from swarm.gateway.openai.embeddings import EmbeddingRequest
from swarm.gateway.openai.requests import ChatRequest, CompletionRequest
from swarm.gateway.responses.requests import ResponseRequest

USER: Any = {"role": "user", "content": "x"}


def chat(**more: Any) -> Any:
    return ChatRequest.model_validate({"model": "m", "messages": [USER], **more}).plain("")


def text(**more: Any) -> Any:
    return CompletionRequest.model_validate({"model": "m", "prompt": "x", **more}).plain_requests("")[0]


def message(**more: Any) -> Any:
    return MessagesRequest.model_validate({"model": "m", "messages": [USER], "max_tokens": 1, **more}).plain("")


def response(**more: Any) -> Any:
    return ResponseRequest.model_validate({"model": "m", "input": "x", **more}).plain((USER,), "")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (chat, "max_tokens"),
        (chat, "max_completion_tokens"),
        (text, "max_tokens"),
        (message, "max_tokens"),
        (response, "max_output_tokens"),
    ],
)
def test_a_limit_may_be_none_and_a_whole_number_may_have_a_point(asked: Any, field: str) -> None:
    assert asked(**{field: -1}).max_tokens is None
    assert asked(**{field: -1.0}).max_tokens is None
    assert (limit := asked(**{field: 64.0}).max_tokens) == 64
    assert isinstance(limit, int)
    for wrong in (0, -2, 64.5, "64", True):
        with pytest.raises(ValueError, match=field):
            asked(**{field: wrong})


def test_other_whole_numbers_may_have_a_point() -> None:
    found = chat(n=2.0, seed=7.0, top_k=5.0, logprobs=True, top_logprobs=3.0)
    assert (found.choices, found.sampling.seed, found.sampling.top_k, found.top_logprobs) == (2, 7, 5, 3)
    assert text(prompt=[5.0, 6.0]).prompt == (5, 6)
    assert EmbeddingRequest.model_validate({"model": "m", "input": [[5.0], [6]]}).inputs() == [[5], [6]]
    assert message(top_k=-1).sampling.top_k == 0


@pytest.mark.parametrize(("asked", "field"), [(chat, "stop"), (text, "stop"), (message, "stop_sequences")])
def test_stops_are_as_many_as_differ(asked: Any, field: str) -> None:
    assert asked(**{field: ["a", "", "b", "a", "c", "d", "e"]}).stop == ("a", "b", "c", "d", "e")
    assert asked(**{field: ["a"] * 100}).stop == ("a",)
    with pytest.raises(ValueError, match="at most 64 stops"):
        asked(**{field: [str(number) for number in range(65)]})


@pytest.mark.parametrize("model", [CountRequest, MessagesRequest])
def test_a_line_that_differs_in_each_request_is_no_part_of_the_prompt(model: Any) -> None:
    line = "x-anthropic-billing-header: cc_version=2.1; cch=fa690;"
    for system in ([{"type": "text", "text": line}, {"type": "text", "text": "You code."}], f"{line}\n\nYou code."):
        asked = {"model": "m", "messages": [USER], "max_tokens": 1, "system": system}
        found = model.model_validate(asked).prompt("").messages
        assert found[0] == {"role": "system", "content": "You code."}
    asked["system"] = [{"type": "text", "text": line}]
    assert len(model.model_validate(asked).prompt("").messages) == 1
