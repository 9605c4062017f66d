"""A prompt that does not fit is told in words by which programs know that they have to make it shorter."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest
from support.gateway import MODEL, serving

LONG = [{"role": "user", "content": "word " * 3000}]
# What programs look for, in any API's error.
LOOKED_FOR = {
    # pi-ai's isContextOverflow; opencode has the same list
    "pi": r"prompt is too long|exceeds the context window|maximum context length is \d+ tokens|context[_ ]length[_ ]exceeded",
    # litellm (is_error_str_context_window_exceeded), and so aider: the words in lower case
    "litellm": r"this model's maximum context length is|prompt is too long|\"code\": \"context_length_exceeded\"",
}
# Claude Code reads both numbers out of it.
CLAUDE = r"prompt is too long[^0-9]*(\d+)\s*tokens?\s*>\s*(\d+)"
# Words of another error: who reads them comes again with the same prompt.
NEVER = r"rate limit|too many requests|overloaded"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": LONG}),
        ("/v1/responses", {"input": LONG}),
        ("/v1/messages", {"messages": LONG, "max_tokens": 32000}),
    ],
)
def test_programs_know_a_prompt_that_is_too_long(path: str, body: dict[str, Any], stream: bool) -> None:
    async def main() -> httpx.Response:
        async with serving() as served, httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            return await http.post(path, json=body | {"model": MODEL, "stream": stream})

    answer = asyncio.run(main())
    assert answer.status_code == 400
    told = answer.json()["error"]
    assert not re.search(NEVER, answer.text, re.IGNORECASE)
    if path == "/v1/messages":
        tokens, most = map(int, re.search(CLAUDE, told["message"]).groups())  # type: ignore[union-attr]
        assert tokens > most == 2048
    else:
        assert told["code"] == "context_length_exceeded"
        assert "maximum context length is 2048 tokens" in told["message"]
    for program, words in LOOKED_FOR.items():
        assert re.search(words, told["message"], re.IGNORECASE), program
