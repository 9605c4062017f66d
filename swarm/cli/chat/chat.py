"""The chat: reads lines in the main thread, where Ctrl-C arrives, while the client lives on an event loop beside it.

The other modules of this package are its parts; here they are put together, and an answer is followed until it ends.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from swarm.cli.answer.client import open_client
from swarm.cli.answer.request import SEED_BITS, Request
from swarm.cli.chat.commands import Ask, Leave, message_of, obey, split, words
from swarm.cli.chat.connection import Link
from swarm.cli.chat.conversation import Conversation
from swarm.cli.chat.figures import status_line
from swarm.cli.chat.keys import Keys, Press, held
from swarm.cli.chat.lines import Editor, LineReader, Reader
from swarm.cli.chat.notes import ChatOutput
from swarm.cli.chat.screens import LiveScreen, PlainScreen, Screen
from swarm.cli.chat.settings import Settings
from swarm.cli.chat.thread import LoopThread, Running
from swarm.cli.keys import data_directory
from swarm.cli.models import demo_directory
from swarm.errors import SwarmError

if TYPE_CHECKING:
    from swarm.cli.status.served import Served
    from swarm.cli.status.survey import Health
    from swarm.client import Answer, Client
    from swarm.identity import PeerId

HISTORY = "chat_history"  # in the data directory
TICK = 0.08  # seconds between two looks at an answer that comes


@dataclass(slots=True)
class Turn:
    """A question under way."""

    question: str
    seed: int
    answer: Answer | None = None


class Chat:
    """A conversation. `handle` takes a line; answers go to a screen, what is to be told to the output."""

    def __init__(
        self,
        link: Link,
        output: ChatOutput,
        settings: Settings,
        screen: Callable[[], Screen],
        pressed: Callable[[float], Press | None] | None = None,
        draw: Callable[[], int] = lambda: secrets.randbits(SEED_BITS),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.link = link
        self.conversation = Conversation()
        self.settings = settings
        self.last: Answer | None = None
        self.question: str | None = None  # the last one, answered or not
        self.status = ""
        self._output = output
        self._screen = screen
        self._pressed = pressed  # None: no key is looked at during an answer
        self._draw = draw
        self._clock = clock
        self._leaving = False

    def handle(self, line: str) -> None:
        """Raises Leave."""
        command = split(line)
        self._output.new_line()
        try:
            if command is None:
                self._ask(message_of(line), again=False)
            elif told := obey(self, *command):
                click.echo(told, err=True)
        except Ask as asked:
            self._again(asked.question)
        except SwarmError as error:
            self._output.note(f"{error}")
        except KeyboardInterrupt:
            self._output.note("stopped")
        if self._leaving:
            raise Leave

    def peers(self) -> str:
        """The workers of the swarm. Raises SwarmError."""
        request = self.link.request
        if request.local:
            return "every layer is computed in this process"
        from rich.console import Console

        from swarm.cli.status.picture import show
        from swarm.cli.status.status import look

        async def asked() -> tuple[list[Served], dict[PeerId, Health], frozenset[PeerId]]:
            models, health, _ = await look(request.bootstrap, request.swarm_key, verbose=False)
            return models, health, self.link.client.banned

        console = Console(stderr=True, highlight=False)
        models, health, banned = self.link.loop.run(asked())
        show(models, health, console, banned)
        return ""

    def _again(self, question: str) -> None:
        """The last turn is forgotten if it was this question's; a stopped or failed one has left none."""
        messages = self.conversation.messages
        before = list(messages)
        if len(messages) > 1 and messages[-2]["content"] == question:
            self.conversation.take_back()
        if self.settings.options(0).sampling.greedy:
            self._output.note("temperature is 0, so the answer will be the same; /set temperature 0.7 draws another")
        try:
            self._ask(question, again=True)
        except SwarmError as error:
            self._output.note(f"{error}")
        except KeyboardInterrupt:
            self._output.note("stopped")
        if len(messages) < len(before):
            messages[:] = before  # no other answer came

    def _ask(self, question: str, again: bool) -> None:
        """Raises SwarmError; KeyboardInterrupt when the answer was stopped."""
        turn = Turn(question, self._draw() if again else self.link.request.drawn_seed)
        self.question, self.status = question, ""
        client = self.link.client
        self._output.hold()
        try:
            with self._screen() as screen:
                self._follow(self.link.loop.begin(self._generate(turn, client)), turn, screen)
        finally:
            self._output.release()
            if turn.answer is not None:
                self.conversation.answered(question, turn.answer.text)
        if turn.answer is not None and turn.answer.context_full:
            self._output.note("the answer ends here: the model's context is full; /clear forgets the conversation")

    async def _generate(self, turn: Turn, client: Client) -> None:
        """On the client's thread."""
        options = self.settings.options(turn.seed)
        messages = self.conversation.asking(turn.question)
        answer = turn.answer = self.last = client.generate(messages, options=options)
        try:
            async for _ in answer:
                self._output.under_way = ""
        finally:
            await answer.aclose()
            self._look()

    def _look(self) -> None:
        """On the client's thread: nowhere else is a chain whole at every moment."""
        if self.last is not None:
            self.status = status_line(self.last)

    def _follow(self, running: Running[None], turn: Turn, screen: Screen) -> None:
        """Show the answer until it ends; its error is raised, KeyboardInterrupt when it was stopped."""
        stopped = False
        while True:
            try:
                ended = self._wait(running)
            except KeyboardInterrupt:
                running.cancel()
                stopped, ended = True, running.wait()
            for text in self._output.take() or [""]:
                screen.note(text, self._clock())
            screen.show("" if turn.answer is None else turn.answer.text, self._line(stopped))
            if ended:
                break
            self.link.loop.call(self._look)
        try:
            running.result()
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    def _wait(self, running: Running[None]) -> bool:
        """Whether it ended; raises KeyboardInterrupt for the keys that stop it."""
        if self._pressed is None:
            return running.wait(TICK)
        press = self._pressed(0 if running.wait(0) else TICK)
        if press is Press.STOP or (press is Press.LEAVE and self._leaving):
            raise KeyboardInterrupt
        self._leaving = self._leaving or press is Press.LEAVE
        return running.wait(0)

    def _line(self, stopped: bool) -> str:
        hint = "stopping" if stopped else "leaving then (space: at once)" if self._leaving else "space stops"
        return " · ".join(filter(None, (self._output.under_way or self.status, hint)))


def converse(chat: Chat, read: Callable[[], str]) -> None:
    """Line by line; `read` raises EOFError at the end and KeyboardInterrupt for Ctrl-C."""
    while True:
        try:
            line = read().strip()
            if line:
                chat.handle(line)
        except EOFError:
            click.echo(err=True)
            return
        except KeyboardInterrupt:
            click.echo("\n(Ctrl-D or /exit leaves)", err=True)
        except Leave:
            return


def run_chat(request: Request) -> None:
    """Until Ctrl-D or /exit. Raises SwarmError only if the client cannot start."""
    output = ChatOutput()
    edited = edits(os.environ)
    hold: AbstractContextManager[None] = held(sys.stdin.fileno()) if edited else nullcontext()
    with hold, LoopThread() as loop:
        link = Link(request, loop, lambda request: open_client(request, output))
        try:
            client = link.open()
            client.check_generates()
            settings = Settings.of(request.options(), request.seed)
            chat, reader = _assemble(link, output, settings, edited)
            output.note(f"{client.model}, {client.model.layer_count} layers; /help lists the commands")
            converse(chat, reader.read)
        finally:
            link.close()


def edits(environment: Mapping[str, str]) -> bool:
    """Whether the terminal has what an editor needs."""
    return sys.stdin.isatty() and sys.stdout.isatty() and environment.get("TERM", "dumb") not in ("dumb", "unknown", "")


def _assemble(link: Link, output: ChatOutput, settings: Settings, edited: bool) -> tuple[Chat, Reader]:
    plain = PlainScreen(output, terminal=sys.stdout.isatty())
    if not edited:
        return Chat(link, output, settings, lambda: plain), LineReader()
    from rich.console import Console

    keys = Keys(sys.stdin.fileno())
    colour = not os.environ.get("NO_COLOR") and not link.request.verbose  # log lines would be drawn over

    def markdown() -> bool:
        said = chat.settings.markdown
        return said if said is not None else link.client.path != demo_directory()  # which writes Python

    live = LiveScreen(Console(highlight=False), markdown)
    chat = Chat(link, output, settings, lambda: live if colour else plain, keys.pressed)
    status = lambda: chat.status or f"{link.client.model.name} · /help"  # noqa: E731
    return chat, Editor(keys, data_directory(os.environ) / HISTORY, words(), status)
