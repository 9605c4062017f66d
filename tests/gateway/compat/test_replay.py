"""What programs asked a gateway once, asked again: recorded by `make record-agents`, kept in `recordings/`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from gateway.compat.answer import read_answer
from gateway.compat.catalog import MODEL, PROGRAMS, calls
from gateway.compat.redaction import FOLDER, with_repeats
from support.gateway import serving
from support.probe import make_probe
from support.swarm import LocalSwarm

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.json"))
# What the gateway does not answer yet.
AWAITED = {
    "instructor, request 3",
    "codex, request 0, strict template",
    "codex-mcp, request 1, strict template",
    "codex, request 2, strict template",
    "codex, request 1, strict template",
    "codex-mcp, request 0, strict template",
    "codex-schema, request 0, strict template",
    "instructor, request 3, strict template",
    "claude-code-picture, request 3, strict template",
    "claude-code-picture, request 5, strict template",
    "claude-code, request 1, strict template",
    "claude-code, request 2, strict template",
    "claude-code, request 3, strict template",
    "claude-code-picture, request 1, strict template",
    "claude-code-picture, request 2, strict template",
    "opencode, request 0, strict template",
}


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_what_programs_asked_is_answered_as_it_was(strict: bool, tmp_path: Path) -> None:
    """By a swarm of two workers: the call that its program ran, or the last words."""
    probe = make_probe(tmp_path / MODEL, calls(FOLDER), strict=strict)

    async def main() -> dict[str, str]:
        async with (
            LocalSwarm(probe, [(0, 1), (1, 2)], name=MODEL) as swarm,
            serving(lambda path: swarm.client(model=path), directory=swarm.records, paths=(probe,)) as served,
            httpx.AsyncClient(base_url=served.url, timeout=60) as http,
        ):
            asked = {
                f"{recording.stem}, request {number}{', strict template' * strict}": request
                for recording in RECORDINGS
                for number, request in enumerate(with_repeats(json.loads(recording.read_text())["requests"]))
            }
            said = await asyncio.gather(*(replay(http, request) for request in asked.values()))
            return {name: error for name, error in zip(asked, said, strict=True) if error}

    wrong = asyncio.run(main())
    told = [f"{name}: {error}" for name, error in wrong.items() if name not in AWAITED]
    assert not told, "\n".join(told)


async def replay(http: httpx.AsyncClient, request: dict[str, Any]) -> str:
    """What is wrong with the answer; empty where nothing is."""
    body = json.dumps(request["body"]).encode() if "body" in request else b""
    if request["headers"].get("content-encoding") == "zstd":
        body = zstandard.compress(body)
    answer = await http.request(request["method"], request["path"], headers=request["headers"], content=body)
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text}"
    if "calls" not in request:
        return ""
    text, names = read_answer(answer.text)
    return "" if (text, names) == (request["says"], request["calls"]) else f"says {text!r} and calls {names}"


def test_every_program_has_a_recording() -> None:
    assert sorted(recording.stem for recording in RECORDINGS) == sorted(program.name for program in PROGRAMS)
