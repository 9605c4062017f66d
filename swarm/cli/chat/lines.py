"""Where lines come from: an editor with history on a terminal, else whatever stdin is, read line by line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from swarm.cli.chat.keys import Keys, Press

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History
    from prompt_toolkit.input import Input
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.output import Output

PROMPT = "> "
GOES_ON = "… "
MAX_HISTORY = 2000  # entries that are kept
MAX_HISTORY_BYTES = 4 << 20  # beyond it the file is written anew with the latest entries, up to a half of this
FILES = ("/save", "/load")  # commands that take a file's name


class Reader(Protocol):
    """`read` raises EOFError at the end and KeyboardInterrupt for Ctrl-C; `pressed` tells of keys during an answer."""

    def read(self) -> str: ...

    def pressed(self, seconds: float) -> Press | None: ...


class LineReader:
    """A line at a time. The prompt never goes into a stdout that is no terminal."""

    watches = False  # keys during an answer: the terminal keeps them for the next line

    def read(self) -> str:
        click.echo(PROMPT, nl=False, err=not sys.stdout.isatty())
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line

    def pressed(self, seconds: float) -> Press | None:
        return None


class Editor:
    """Lines are edited, found again and completed; Alt-Enter begins another one of the same message."""

    watches = True

    def __init__(
        self,
        keys: Keys,
        history: Path | None,
        words: Mapping[str, Sequence[str]],
        status: Callable[[], str],
        source: Input | None = None,
        screen: Output | None = None,
    ) -> None:
        self._keys = keys
        self._history = history
        self._words = words  # what may follow each command
        self._status = status
        self._source = source
        self._screen = screen
        self._session: PromptSession[str] | None = None

    def read(self) -> str:
        from prompt_toolkit.patch_stdout import patch_stdout

        session = self._session = self._session or self._open()
        self._feed(session)
        if self._screen is not None:
            return session.prompt()
        with patch_stdout(raw=True):
            return session.prompt()

    def pressed(self, seconds: float) -> Press | None:
        return self._keys.pressed(seconds)

    def _open(self) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.shortcuts import CompleteStyle
        from prompt_toolkit.styles import Style

        return PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=GOES_ON,
            history=bounded_history(self._history),
            completer=completer(self._words),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            reserve_space_for_menu=0,
            bottom_toolbar=self._toolbar,
            style=Style.from_dict({"prompt": "bold", "bottom-toolbar": "noreverse fg:ansibrightblack"}),
            key_bindings=bindings(),
            enable_suspend=True,
            input=self._source,
            output=self._screen,
        )

    def _toolbar(self) -> str:
        assert self._session is not None
        width = self._session.output.get_size().columns
        text = self._status()
        return text if len(text) < width else text[: width - 2] + "…"

    def _feed(self, session: PromptSession[str]) -> None:
        """What was typed during the answer comes first."""
        from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
        from prompt_toolkit.input.vt100_parser import Vt100Parser
        from prompt_toolkit.key_binding import KeyPress

        text = self._keys.take()
        if text:
            presses: list[KeyPress] = []
            parser = Vt100Parser(presses.append)
            parser.feed(text.replace("\n", "\r"))
            parser.flush()
            store_typeahead(session.input, get_typeahead(session.input) + presses)


def bindings() -> KeyBindings:
    """Enter sends; Alt-Enter (or Esc, Enter) begins another line; pasted lines stay together."""
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def another_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys


def completer(words: Mapping[str, Sequence[str]]) -> Completer:
    """Commands, and what may follow each of them."""
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    class Commands(Completer):
        def get_completions(self, document: Document, complete_event: object) -> Iterable[Completion]:
            command, space, rest = document.text_before_cursor.partition(" ")
            if not command.startswith("/") or "\n" in command:
                return
            if space and command in FILES:
                yield from PathCompleter(expanduser=True).get_completions(Document(rest), complete_event)  # type: ignore[arg-type]
                return
            begun, choices = (rest, words.get(command, ())) if space else (command, tuple(words))
            yield from (Completion(word, -len(begun)) for word in choices if word.startswith(begun))

    return Commands()


def bounded_history(path: Path | None) -> History:
    """In a file that only its owner reads; one that cannot be used is as good as none."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Bounded(FileHistory):
        def store_string(self, string: str) -> None:
            with suppress(OSError):  # the disk is full: this run still remembers
                super().store_string(string)

    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        history = Bounded(str(path))
        if path.stat().st_size > MAX_HISTORY_BYTES:
            _shorten(path, history)
    except OSError:
        return InMemoryHistory()
    return history


def _shorten(path: Path, history: History) -> None:
    """Keep the latest entries."""
    kept: list[str] = []
    size = 0
    for entry in history.load_history_strings():  # the latest first
        size += len(entry.encode("utf-8", "replace"))
        if len(kept) == MAX_HISTORY or size > MAX_HISTORY_BYTES // 2:
            break
        kept.append(entry)
    os.truncate(path, 0)
    for entry in reversed(kept):
        history.store_string(entry)
