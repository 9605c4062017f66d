"""`swarm client`: one answer, streamed; or what else the options mean, a chat or a vector."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace

import click

from swarm.cli.answer.client import finish_audits, open_client
from swarm.cli.answer.embed import run_embed
from swarm.cli.answer.output import Output
from swarm.cli.answer.prompt import whole_prompt
from swarm.cli.answer.report import report
from swarm.cli.answer.request import Request
from swarm.client import Answer
from swarm.engine import settle_threads


def run_client(request: Request) -> None:
    """Raises SwarmError."""
    output = Output()
    settle_threads(request.threads)
    request.options()  # a contradiction is told before anything is loaded
    if request.embed is not None:
        run_embed(request, output)
        return
    if request.prompt is None and sys.stdin is not None and sys.stdin.isatty() and not request.as_json:
        from swarm.cli.chat.chat import run_chat

        run_chat(request)
        return
    request = replace(request, prompt=whole_prompt(request, output.note))
    asyncio.run(_answer(request, output))


async def _answer(request: Request, output: Output) -> None:
    async with open_client(request, output) as client:
        answer = client.generate(request.prompt or "", raw=request.raw, options=request.options())
        await stream(answer, output, silent=request.as_json)
        if request.as_json:
            click.echo(json.dumps(report(answer, client)))
        if not request.local:
            await finish_audits(client, output)


async def stream(answer: Answer, output: Output, silent: bool = False) -> None:
    """Write an answer as it comes; whatever ends it early ends the line too."""
    try:
        async for token in answer:
            if not silent:
                output.text(token.text)
    finally:
        await answer.aclose()
        output.end_text()
    if answer.context_full:
        output.note("the answer ends here: the model's context is full")
