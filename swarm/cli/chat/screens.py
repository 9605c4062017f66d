"""Where an answer is shown while it comes: as mere text, or with a status line below what is still being written.

Used by one thread. Notes reach it only when the answer's thread is asked for news, so text and notes never mix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from swarm.cli.chat.blocks import ending, finished, visible, with_breaks

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

    from swarm.cli.answer.output import Output

STATUS_ROWS = 2  # kept free below a block that is drawn anew
PATIENCE = 2.0  # seconds that a note waits for the end of a line of text


class Screen(Protocol):
    """`with screen: screen.show(text so far, status); screen.note(…)`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, text: str, status: str) -> None: ...

    def note(self, text: str, now: float) -> None: ...


class PlainScreen:
    """Text as it comes. A note waits for the end of a line, though not for long."""

    def __init__(self, output: Output, terminal: bool) -> None:
        self._output = output
        self._terminal = terminal  # a file gets every character as it is
        self._written = 0
        self._ends_line = True
        self._held: list[tuple[float, str]] = []  # notes, and when they came
        self._moved = 0.0

    def __enter__(self) -> Self:
        self._written, self._ends_line = 0, True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._output.end_text()
        self._tell()

    def show(self, text: str, status: str) -> None:
        new = text[self._written :]
        if not new:
            return
        self._written = len(text)
        if self._held and (end := new.find("\n") + 1):
            self._write(new[:end])
            self._tell()
            new = new[end:]
        self._write(new)

    def note(self, text: str, now: float) -> None:
        """An empty one only lets time pass."""
        if text:
            self._held.append((now, text))
        if self._held and (self._ends_line or now - self._held[0][0] > PATIENCE):
            self._tell()

    def _write(self, text: str) -> None:
        if text:
            self._output.text(visible(text) if self._terminal else text)
            self._ends_line = text.endswith("\n")

    def _tell(self) -> None:
        held, self._held = self._held, []
        for _, text in held:
            self._output.note(text)


class LiveScreen:
    """What cannot change any more is printed for good; below it the last block or line and a status are drawn anew."""

    def __init__(self, console: Console, markdown: Callable[[], bool]) -> None:
        self._console = console
        self._is_markdown = markdown
        self._markdown = False  # this answer is
        self._live: Live | None = None
        self._text = self._status = ""
        self._printed = 0  # characters that are printed for good
        self._first = True

    def __enter__(self) -> Self:
        from rich.live import Live

        self._text = self._status = ""
        self._printed, self._first, self._markdown = 0, True, self._is_markdown()
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        live, self._live = self._live, None
        assert live is not None
        live.stop()
        self._print(len(self._text))
        if not self._first:
            self._console.print()  # the next question stands apart

    def show(self, text: str, status: str) -> None:
        if (text, status) == (self._text, self._status):
            return
        self._text, self._status = text, status
        new = text[self._printed :]
        self._print(self._printed + (finished(new) if self._markdown else new.rfind("\n") + 1))
        self._draw()

    def note(self, text: str, now: float) -> None:
        from rich.text import Text

        if text:
            self._console.print(Text(f"swarm: {text}", style="dim"))

    def _print(self, end: int) -> None:
        from rich.text import Text

        text = self._text[self._printed : end]
        self._printed = end
        if not self._markdown and text:
            self._console.print(Text(visible(text).removesuffix("\n")), soft_wrap=True)
        elif text.strip():
            self._console.print(Block(text, gap=not self._first))
        self._first = self._first and not text.strip()

    def _draw(self) -> None:
        from rich.console import Group
        from rich.text import Text

        assert self._live is not None
        status = Text(self._status, style="dim", no_wrap=True, overflow="ellipsis")
        width, height = self._console.size
        rows = max(1, height - STATUS_ROWS - 1)
        text = ending(self._text[self._printed :], rows * width)  # what a long block costs does not grow
        gap = self._markdown and not self._first
        self._live.update(Group(Block(text, gap, rows, self._markdown), status), refresh=True)


class Block:
    """Markdown (or mere text) without blank lines around it; of a long one the last `rows`."""

    def __init__(self, text: str, gap: bool, rows: int | None = None, markdown: bool = True) -> None:
        self._text = text
        self._gap = gap  # a blank line before it
        self._rows = rows
        self._markdown = markdown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.markdown import Markdown
        from rich.segment import Segment
        from rich.text import Text

        if not self._text.strip():
            return
        shown = visible(self._text)
        drawn = Markdown(with_breaks(shown), hyperlinks=False) if self._markdown else Text(shown, overflow="fold")
        lines = console.render_lines(drawn, options, pad=False)
        while lines and not _has_text(lines[0]):
            del lines[0]
        while lines and not _has_text(lines[-1]):
            del lines[-1]
        if self._gap:
            lines.insert(0, [])
        for line in lines if self._rows is None else lines[-self._rows :]:
            yield from line
            yield Segment.line()


def _has_text(line: Sequence[object]) -> bool:
    return any(getattr(segment, "text", "").strip() for segment in line)
