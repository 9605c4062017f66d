"""The chat prompt: reads lines in the main thread, where Ctrl-C arrives, while the client lives on an event loop beside it.

Ctrl-C ends the answer that is being written, Ctrl-D and /exit end the chat. Knows nothing of chains but their looks.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click

from swarm.cli.answer import Request, open_client, stream
from swarm.cli.output import Output
from swarm.errors import SwarmError

if TYPE_CHECKING:
    from swarm.client import Answer, Client

T = TypeVar("T")

PROMPT = "> "
HELP = """\
/help    this
/peers   the workers of the last answer's chain, and what became of others
/clear   forget the conversation
/exit    leave (Ctrl-D too); Ctrl-C stops an answer"""


class LoopThread:
    """An event loop in a thread of its own: `with LoopThread() as loop: loop.run(coroutine)`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Ctrl-C cancels it, waits until it ended and is raised again."""
        begun: list[asyncio.Task[T]] = []
        ended: Future[None] = Future()

        def begin() -> None:
            begun.append(self._loop.create_task(work))
            begun[0].add_done_callback(lambda _: ended.set_result(None))

        self._loop.call_soon_threadsafe(begin)
        try:
            self.wait(ended)
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(lambda: begun[0].cancel())
            ended.result()
            raise
        return begun[0].result()

    def wait(self, ended: Future[None]) -> None:
        """In the main thread, where Ctrl-C is raised."""
        ended.result()


class Chat:
    """A conversation. `say` answers a line; `generate` starts an answer to a list of messages."""

    def __init__(self, generate: Callable[[list[dict[str, str]]], Answer], output: Output) -> None:
        self._generate = generate
        self._output = output
        self._messages: list[dict[str, str]] = []
        self._last: Answer | None = None

    async def say(self, line: str) -> None:
        """Answer, and remember both; an answer that was stopped is remembered as far as it came."""
        self._messages.append({"role": "user", "content": line})
        answer = self._last = None
        try:
            answer = self._last = self._generate(list(self._messages))
            await stream(answer, self._output)
        finally:
            if answer is not None and answer.text:
                self._messages.append({"role": "assistant", "content": answer.text})
            else:
                self._messages.pop()

    def clear(self) -> str:
        self._messages.clear()
        return "forgotten"

    def peers(self) -> str:
        """The chain of the last answer in a line for each hop."""
        session = getattr(self._last, "session", None)
        if session is None:
            return "no answer yet"
        chain = getattr(session, "chain", None)
        if chain is None:
            return "every layer is computed in this process"
        lines = [f"layers {hop.span}: {hop.peer_id.short} at {hop.addresses[0]}" for hop in chain.hops]
        lines += [
            f"layers {recovery.span} moved from {recovery.peer_id.short} in {recovery.seconds:.2f} s: {recovery.cause}"
            for recovery in session.recoveries
        ]
        return "\n".join(lines)


def run_chat(request: Request, output: Output, read: Callable[[], str] | None = None) -> None:
    """Until Ctrl-D or /exit. Raises SwarmError only if the client cannot start."""
    with LoopThread() as loop:
        holder = _Holder(request, output)
        try:
            client = loop.run(holder.start())
            output.note(f"{client.model}, {client.model.layer_count} layers; /help, /peers, /clear, /exit")
            chat = Chat(lambda messages: client.generate(messages, options=request.options()), output)
            converse(chat, loop, output, read or _read_line)
        finally:
            loop.run(holder.stop())


def _read_line() -> str:
    """A line from the terminal, edited as shells do. The prompt never goes into a stdout that is no terminal."""
    if sys.stdout.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401  # `input` edits lines once it is loaded
        return input(PROMPT)
    click.echo(PROMPT, nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


class _Holder:
    """Keeps the client open in one task, from `start` to `stop`."""

    def __init__(self, request: Request, output: Output) -> None:
        self._request = request
        self._output = output
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._opened = False

    async def start(self) -> Client:
        opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(opened), name="client")
        either: set[asyncio.Future[Any]] = {self._task, opened}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            self._task.result()
        return opened.result()

    async def _hold(self, opened: asyncio.Future[Client]) -> None:
        async with open_client(self._request, self._output) as client:
            self._opened = True
            opened.set_result(client)
            await self._stop.wait()

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            if not self._opened:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def converse(chat: Chat, loop: LoopThread, output: Output, read: Callable[[], str]) -> None:
    """Line by line; `read` raises EOFError at the end and KeyboardInterrupt for Ctrl-C."""
    commands: dict[str, Callable[[], str]] = {"/help": lambda: HELP, "/peers": chat.peers, "/clear": chat.clear}
    while True:
        try:
            line = read().strip()
        except EOFError:
            click.echo(err=True)
            return
        except KeyboardInterrupt:
            click.echo("\n(Ctrl-D or /exit leaves)", err=True)
            continue
        if line == "/exit":
            return
        if line.startswith("/"):
            click.echo(commands.get(line, lambda: f"no such command\n{HELP}")(), err=True)
        elif line:
            try:
                loop.run(chat.say(line))
            except KeyboardInterrupt:
                output.note("stopped")
            except SwarmError as error:
                output.note(f"{error}")
