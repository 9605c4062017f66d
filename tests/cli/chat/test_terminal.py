"""The chat as a person meets it: a real process on a terminal that can move its cursor."""

import os
import pty
import subprocess
import sys

import pytest


class Terminal:
    """`swarm client --local` on a terminal; `until` reads what it writes."""

    def __init__(self, folder, *arguments):
        self._ours, theirs = pty.openpty()
        plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "SWARM_BOOTSTRAP")}
        environment = plain | {"XDG_DATA_HOME": str(folder), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "swarm", "client", "--local", "--model", "demo", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment | {"COLUMNS": "80", "LINES": "24"},
            start_new_session=True,
        )
        os.close(theirs)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def until(self, end):
        seen = b""
        while end not in seen:
            seen += os.read(self._ours, 4096)
        return seen

    def rest(self):
        """To the end of the process."""
        seen = b""
        try:
            while part := os.read(self._ours, 4096):
                seen += part
        except OSError:  # how a terminal says that nobody is left
            pass
        return seen

    def type(self, text):
        os.write(self._ours, text)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def make(*arguments):
        opened.append(Terminal(tmp_path, *arguments))
        return opened[0]

    yield make
    for each in opened:
        each.close()


def test_space_stops_an_answer_and_what_was_typed_too_early_is_kept(terminal):
    screen = terminal("--max-tokens", "1900")
    screen.type(b"# class Foo:\n")  # while the model is still being loaded
    screen.until(b"space stops")
    screen.type(b" ")
    screen.until(b"stopped")
    screen.type(b"/stats\r")
    assert b"stopped early" in screen.until(b"seed")
    screen.type(b"\x04")
    assert screen.process.wait(60) == 0


def test_ctrl_d_during_an_answer_is_not_lost(terminal):
    screen = terminal("--max-tokens", "40")
    screen.type(b"# class Foo:\n")
    screen.until(b"space stops")
    screen.type(b"\x04")
    screen.rest()
    assert screen.process.wait(60) == 0
