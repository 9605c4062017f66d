"""`swarm demo` as its users meet it."""

import io
import signal
import time

import psutil
import pytest
from rich.console import Console
from support.processes import SwarmProcess

from swarm.demo.showcase import Show, compare

SECONDS = 60.0


def started(*arguments):
    return SwarmProcess("demo", *arguments, watched=False)


def children(demo, count):
    """The demo's own children, once there are so many."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        found = psutil.Process(demo.process.pid).children()
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} children: {found}\n{demo.errors()}")


def test_a_worker_dies_and_the_text_is_the_unsplit_models():
    demo = started("--max-tokens", "24", "--workers", "3")
    try:
        out = demo.read_until(b"after token 8\n", SECONDS).decode()
        there = children(demo, 4)
        out += demo.rest(SECONDS).decode()
    finally:
        demo.close()
    assert demo.process.returncode == 0, out + demo.errors()
    assert "Equal: all 24 tokens" in out
    kill, lost, back = (
        next(line for line in out.splitlines() if line.startswith(f"   {word}  ")) for word in ("kill", "lost", "back")
    )
    victim = kill.split("worker ")[1][:8]
    assert victim in lost
    assert victim not in back
    assert "in one process, unsplit: 24 tokens" in out
    assert "\x1b" not in out
    assert psutil.wait_procs(there, timeout=10)[1] == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_however_it_ends_no_process_is_left(number, code):
    demo = started("--workers", "2")
    try:
        demo.read_until(b"bootstrap", SECONDS)
        there = children(demo, 3)
        assert demo.end(number) == code, demo.errors()
        assert psutil.wait_procs(there, timeout=20)[1] == []
        assert "Traceback" not in demo.errors()
    finally:
        demo.close()


def test_a_reader_that_leaves_ends_it_without_a_traceback():
    demo = started("--workers", "2")
    try:
        demo.read_until(b"bootstrap", SECONDS)
        there = children(demo, 3)
        demo.process.stdout.close()
        assert demo.process.wait(SECONDS) == 1, demo.errors()
        assert demo.errors() == ""
        assert psutil.wait_procs(there, timeout=20)[1] == []
    finally:
        demo.close()


def test_a_terminal_gets_lines_broken_between_words_and_a_file_gets_them_whole():
    said = "   lost  worker 0bd0e787, layers 8-15: the connection to peer 0bd0e787 at 127.0.0.1:45123 ended"
    shown = []
    for terminal in (True, False):
        file = io.StringIO()
        Show(Console(file=file, width=80, force_terminal=terminal, color_system=None)).line(said)
        shown.append(file.getvalue().splitlines())
    assert [len(lines) for lines in shown] == [2, 1]
    assert " ".join(line.rstrip() for line in shown[0]) == said


@pytest.mark.parametrize(
    ("split", "unsplit", "code", "said"),
    [
        ([1, 2, 3], [1, 2, 3], 0, "Equal: all 3 tokens"),
        ([1, 2, 3], [1, 5, 3], 1, "first at token 2"),
        ([1, 2], [1, 2, 3], 1, "their number differs"),
    ],
)
def test_the_verdict(split, unsplit, code, said):
    file = io.StringIO()
    assert compare(split, unsplit, Show(Console(file=file))) == code
    assert said in file.getvalue()


def test_text_and_events_never_share_a_line():
    file = io.StringIO()
    show = Show(Console(file=file))
    show.text("def", "bold")
    show.text(" f", "cyan")
    show.line("killed")
    show.text("(x):\n", "cyan")
    show.line("back")
    assert file.getvalue() == "def f\nkilled\n(x):\nback\n"
