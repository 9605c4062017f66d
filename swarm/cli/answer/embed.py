"""`swarm client --embed`: vectors of texts, each a JSON array on a line of stdout."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import click

from swarm.errors import SwarmError, UsageFault

if TYPE_CHECKING:
    from swarm.cli.answer.output import Output
    from swarm.cli.answer.request import Request
    from swarm.client import Client

STDIN = "-"
AT_ONCE = 8  # texts of stdin taken through the chain together
MAX_LINE_CHARACTERS = 1 << 24
SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "seed",
    "max_tokens",
    "stop",
    "stop_ids",
    "raw",
)
OPTIONS = {"stop_ids": "--stop-id"}  # those that are not called as they are kept

embed_option = click.option(
    "--embed",
    metavar="TEXT",
    help="Print the vector of TEXT as a JSON array; - reads a text from each line of stdin. The model's files say how it is "
    "made of the rows; else it is their mean with an encoder, and with a decoder the last row, brought to length 1.",
)


def run_embed(request: Request, output: Output) -> None:
    """Raises SwarmError."""
    if request.prompt is not None:
        raise UsageFault("--embed TEXT makes a vector and PROMPT asks for an answer: use one of them")
    if given := [name for name in SAMPLING if getattr(request, name) not in (None, (), False)]:
        names = ", ".join(OPTIONS.get(name, f"--{name.replace('_', '-')}") for name in given)
        raise UsageFault(f"{names}: --embed writes no answer; leave {'it' if len(given) == 1 else 'them'} out")
    asyncio.run(_embed(request, output))


async def _embed(request: Request, output: Output) -> None:
    from swarm.cli.answer.client import finish_audits, open_client

    assert request.embed is not None
    async with open_client(request, output) as client:
        if request.embed != STDIN:
            _show(await client.embed(request.embed))
        else:
            try:
                await _embed_lines(client, sys.stdin)
            except ExceptionGroup as group:  # whatever fails first cancels the others
                faults, bugs = group.split(SwarmError)
                if faults is None or bugs is not None:
                    raise
                raise faults.exceptions[0] from None
        if not request.local:
            await finish_audits(client, output)


def _show(vector: list[float]) -> None:
    click.echo(json.dumps(vector))


async def _embed_lines(client: Client, source: TextIO) -> None:
    """In the order of the lines, each as soon as it and those before it are done."""
    under_way: asyncio.Queue[asyncio.Task[list[float]] | None] = asyncio.Queue(AT_ONCE)

    async def one(number: int, text: str) -> list[float]:
        try:
            return await client.embed(text)
        except UsageFault as error:
            raise type(error)(f"line {number}: {error}") from error

    async def show() -> None:
        while (task := await under_way.get()) is not None:
            _show(await task)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(show())
        number = 0
        async for text in _lines(source):
            number += 1
            await under_way.put(tasks.create_task(one(number, text)))
        await under_way.put(None)


async def _lines(source: TextIO) -> AsyncIterator[str]:
    """Read in a thread that nobody has to wait for: whoever types them may not be done when this process leaves."""
    loop = asyncio.get_running_loop()
    read: asyncio.Queue[str | UsageFault] = asyncio.Queue(AT_ONCE)

    def hand_on(line: str | UsageFault) -> None:
        asyncio.run_coroutine_threadsafe(read.put(line), loop).result()

    def feed() -> None:
        with suppress(RuntimeError, asyncio.CancelledError):  # the loop has ended
            try:
                while line := source.readline(MAX_LINE_CHARACTERS + 1):
                    hand_on(line)
            except UnicodeDecodeError as error:
                hand_on(UsageFault(f"stdin is no text: {error}"))
            hand_on("")

    threading.Thread(target=feed, name="stdin", daemon=True).start()
    while line := await read.get():
        if isinstance(line, UsageFault):
            raise line
        if len(line) > MAX_LINE_CHARACTERS:
            raise UsageFault(f"a line of stdin has more than {MAX_LINE_CHARACTERS} characters")
        yield line.removesuffix("\n").removesuffix("\r")
