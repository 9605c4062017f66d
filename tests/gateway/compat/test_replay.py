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
DOCUMENT = Path(__file__).parents[3] / "docs" / "AGENTS.md"
# Programs that order messages as they like; libraries leave that to whoever uses them.
OWN_MINDED = {program.name for program in PROGRAMS if program.command[0] not in ("python", "node")}


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
                if not strict or recording.stem in OWN_MINDED
                for number, request in enumerate(with_repeats(json.loads(recording.read_text())["requests"]))
            }
            return {name: error for name, request in asked.items() if (error := await replay(http, request))}

    wrong = asyncio.run(main())
    assert not wrong, "\n".join(f"{name}: {error}" for name, error in wrong.items())


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


def test_the_document_gives_the_configurations_that_were_recorded() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    told = {recording.stem: json.loads(recording.read_text()) for recording in RECORDINGS}
    for program in PROGRAMS:
        assert told[program.name]["version"] in document, program.name
        if program.command[0] in ("python", "node"):
            continue
        lines = [f"{name}={value}" for name, value in program.env.items()]
        if program.name in ("codex", "opencode", "pi-openai-completions", "llm"):
            lines += [text.strip() for name, text in program.files.items() if name != "schema.json"]
        for line in lines:
            assert (
                line.replace("BASE/", "http://127.0.0.1:8080/").replace("=BASE", "=http://127.0.0.1:8080") in document
            )
