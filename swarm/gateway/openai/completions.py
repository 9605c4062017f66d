"""`POST /v1/completions`: the older API, which goes on from a text as it is. Several prompts are answered together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from swarm.gateway.generation.choice import Choice, ToldText, ToldToken, Usage, usage_of
from swarm.gateway.http.sse import event
from swarm.gateway.openai.chat import DONE, Said, Stamp, merged, usage_json


def completion(
    stamp: Stamp, choices: Sequence[Choice], all_said: Sequence[Said], echoed: Sequence[str], logprobs: bool
) -> dict[str, Any]:
    """The body of an answer that was not streamed. `echoed`: for each choice the prompt's text, or nothing."""
    return _envelope(stamp) | {
        "choices": [
            {
                "index": number,
                "text": echo + "".join(said.text),
                "logprobs": _logprobs(said.tokens) if logprobs else None,
                "finish_reason": choice.finish_reason,
            }
            for number, (choice, said, echo) in enumerate(zip(choices, all_said, echoed, strict=True))
        ],
        "usage": usage_json(usage_of_prompts(choices)),
    }


async def chunks(
    stamp: Stamp, choices: Sequence[Choice], echoed: Sequence[str], logprobs: bool, wants_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The events of a streamed answer."""
    places = {id(choice): number for number, choice in enumerate(choices)}
    lengths = [0] * len(choices)  # of the tokens told so far
    begun = False
    async with aclosing(merged(choices)) as deltas:
        async for choice, delta in deltas:
            for number, echo in () if begun else enumerate(echoed):
                if echo:
                    yield event(_chunk(stamp, number, echo, wants_usage))
            begun = True
            place = places[id(choice)]
            if delta is None:
                yield event(_chunk(stamp, place, "", wants_usage, choice.finish_reason))
            elif isinstance(delta, ToldText):
                told = _logprobs(delta.tokens, lengths[place]) if logprobs and delta.tokens else None
                lengths[place] += sum(len(token.text) for token in delta.tokens)
                yield event(_chunk(stamp, place, delta.text, wants_usage, None, told))
    if wants_usage:
        yield event(_envelope(stamp) | {"choices": [], "usage": usage_json(usage_of_prompts(choices))})
    yield event(DONE)


def alive(stamp: Stamp, wants_usage: bool) -> bytes:
    """An event that adds nothing, which may stand before the first as well."""
    return event(_chunk(stamp, 0, "", wants_usage))


def usage_of_prompts(choices: Sequence[Choice]) -> Usage:
    """The choices of one prompt share it; several prompts add up."""
    each = [usage_of([choice]) for choice in choices]
    firsts = [usage for choice, usage in zip(choices, each, strict=True) if choice.index == 0]
    return Usage(
        sum(usage.prompt for usage in firsts),
        sum(usage.completion for usage in each),
        sum(usage.cached for usage in firsts),
    )


def _envelope(stamp: Stamp) -> dict[str, Any]:
    return {"id": stamp.id, "object": "text_completion", "created": stamp.created, "model": stamp.model}


def _chunk(
    stamp: Stamp,
    place: int,
    text: str,
    wants_usage: bool,
    finish_reason: str | None = None,
    logprobs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    choice = {"index": place, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
    chunk = _envelope(stamp) | {"choices": [choice]}
    return chunk | {"usage": None} if wants_usage else chunk


def _logprobs(tokens: Sequence[ToldToken], place: int = 0) -> dict[str, Any]:
    """`place`: characters of the tokens before."""
    offsets = []
    for token in tokens:
        offsets.append(place)
        place += len(token.text)
    return {
        "tokens": [_name(token.piece) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{_name(piece): logprob for _, piece, logprob in token.top} for token in tokens],
        "text_offset": offsets,
    }


def _name(piece: bytes) -> str:
    """A token's text; a part of a character is named by its bytes, as OpenAI does, for names must differ."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
