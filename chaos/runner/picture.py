"""A run as it goes: on a terminal a live picture of workers, faults, sessions and tokens, elsewhere a line for what happens."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chaos.farm import Member
from chaos.runner.run import Run

SHOWN_LINES = 8
REFRESHES = 4  # a second


class Picture:
    """`with Picture(console) as picture:`; `say` is for the run, `run` for what is drawn."""

    def __init__(self, console: Console) -> None:
        self.run: Run | None = None
        self._console = console
        self._lines: deque[str] = deque(maxlen=SHOWN_LINES)
        self._began = time.monotonic()
        self._live = (
            Live(console=console, get_renderable=self._draw, refresh_per_second=REFRESHES, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Picture:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self._began:6.1f} s  {text}"
        self._lines.append(line)
        if self._live is None:
            self._console.print(Text(line), soft_wrap=True)

    def _draw(self) -> RenderableType:
        run = self.run
        if run is None or run.farm is None:
            return Text("\n".join(self._lines))
        load = run.load
        title = f"{run.scenario.name}: {run.case}"
        if load is not None:
            right = sum(request.right for request in load.requests)
            title += f" – {load.running} sessions, {right} of {len(load.requests)} answers right, {load.tokens} tokens"
        members = Table("process", "peer", "layers", "state", "connections", "faults in force", title=title)
        for member in run.farm.members:
            members.add_row(
                member.name,
                member.short,
                member.layers or "–",
                _state(member),
                str(member.link.pipes.count),
                Text(", ".join(member.faults), style="bold red"),
            )
        return Group(members, Text("\n".join(self._lines), style="dim"))


def _state(member: Member) -> Text:
    if member.paused:
        return Text("paused", style="yellow")
    return Text("serving", style="green") if member.serving else Text("down", style="red")
