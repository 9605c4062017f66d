"""While nothing can be said a stream's events go on, in every API's own words: programs that count events do not give up."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import openai
from support.gateway import MODEL, Served, openai_asking, run_asking

ASKED: list[Any] = [{"role": "user", "content": "a function that adds two numbers"}]
SOON = 1e-6  # seconds, far fewer than a prompt takes


def test_signs_before_the_first_token_are_events_that_programs_know() -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        options: dict[str, Any] = {"model": MODEL, "temperature": 0}
        whole = await client.chat.completions.create(messages=ASKED, max_tokens=8, **options)
        said = whole.choices[0].message.content or ""

        async with client.chat.completions.stream(messages=ASKED, max_tokens=8, **options) as stream:
            chunks = [event.chunk async for event in stream if event.type == "chunk"]
            message = stream.current_completion_snapshot.choices[0].message
        assert (message.role, message.content) == ("assistant", said)
        assert not chunks[0].choices[0].delta.model_fields_set

        prompt = (await client.completions.create(prompt="def", max_tokens=8, **options)).choices[0].text
        parts = [
            part async for part in await client.completions.create(prompt="def", max_tokens=8, stream=True, **options)
        ]
        assert parts[0].choices[0].text == ""
        assert "".join(part.choices[0].text for part in parts) == prompt

        async with client.responses.stream(input=ASKED, max_output_tokens=16, **options) as told:
            events = [event async for event in told]
        assert [event.type for event in events][:3] == [
            "response.created",
            "response.in_progress",
            "response.in_progress",
        ]
        assert events[-1].response.output_text.startswith(said)  # type: ignore[union-attr]

        async with (
            anthropic.AsyncAnthropic(base_url=served.url, api_key="right", max_retries=0) as asking,
            asking.messages.stream(model=MODEL, messages=ASKED, max_tokens=8, extra_body={"temperature": 0}) as words,
        ):
            assert "".join([text async for text in words.text_stream]) == said

    run_asking(openai_asking, work, keepalive_seconds=SOON)


def test_signs_are_numbered_and_said_as_each_api_has_them() -> None:
    async def work(client: openai.AsyncOpenAI, served: Served) -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            body = {"model": MODEL, "messages": ASKED, "max_tokens": 4, "stream": True}
            answer = (await http.post("/v1/messages", json=body)).text
            assert answer.startswith('event: ping\ndata: {"type":"ping"}\n\n')
            answer = (
                await http.post(
                    "/v1/responses", json={"model": MODEL, "input": ASKED, "stream": True, "max_output_tokens": 16}
                )
            ).text
        events = [json.loads(line.removeprefix("data: ")) for line in answer.splitlines() if line.startswith("data: ")]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert all(event["response"]["status"] == "in_progress" for event in events[:3])

    run_asking(openai_asking, work, keepalive_seconds=SOON)
