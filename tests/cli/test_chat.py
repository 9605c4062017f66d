import asyncio
import io
import threading
import types

import pytest

from swarm.cli.chat import Chat, LoopThread, converse
from swarm.cli.output import Output
from swarm.errors import UsageFault


class Said:
    """An answer of scripted texts; one that has nothing more to say waits to be stopped."""

    context_full = False

    def __init__(self, texts, *, endless=False, error=None):
        self.text = ""
        self.session = None
        self.waiting = threading.Event()
        self._texts, self._endless, self._error = texts, endless, error

    async def __aiter__(self):
        for text in self._texts:
            self.text += text
            yield types.SimpleNamespace(text=text)
        if self._error is not None:
            raise self._error
        if self._endless:
            self.waiting.set()
            await asyncio.Event().wait()

    async def aclose(self):
        pass


def chat_of(*answers):
    asked, text, notes = [], io.StringIO(), io.StringIO()
    left = iter(answers)

    def generate(messages):
        asked.append(messages)
        return next(left)

    output = Output(text, notes)
    return Chat(generate, output), output, asked, text, notes


def lines(*said):
    """A terminal at which these lines are typed; an exception is what happens instead of a line, a function is called first."""
    left = iter(said)

    def read():
        line = next(left, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line() if callable(line) else line

    return read


def test_a_conversation_is_kept_until_it_is_cleared():
    chat, output, asked, text, _ = chat_of(Said(["Hel", "lo"]), Said(["Again"]), Said(["New"]))
    with LoopThread() as loop:
        converse(chat, loop, output, lines("hi", "", "more", "/clear", "start"))
    assert text.getvalue() == "HelloAgainNew"
    assert [[message["content"] for message in messages] for messages in asked] == [
        ["hi"],
        ["hi", "Hello", "more"],
        ["start"],
    ]
    assert asked[1][1]["role"] == "assistant"


class Interrupted(LoopThread):
    """Ctrl-C is pressed once, as soon as `after` is set."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def wait(self, ended):
        if self.after is not None:
            after, self.after = self.after, None
            assert after.wait(10)
            raise KeyboardInterrupt
        super().wait(ended)


def test_ctrl_c_stops_the_answer_and_not_the_program():
    endless = Said(["Once upon"], endless=True)
    chat, output, asked, text, notes = chat_of(endless, Said(["Sure"]))
    with Interrupted(endless.waiting) as loop:
        converse(chat, loop, output, lines("tell", "go on"))
    assert text.getvalue() == "Once uponSure"
    assert "stopped" in notes.getvalue()
    assert asked[1][1]["content"] == "Once upon"


def test_ctrl_c_at_the_prompt_and_unknown_commands_do_no_harm(capsys):
    chat, output, asked, *_ = chat_of()
    with LoopThread() as loop:
        converse(chat, loop, output, lines(KeyboardInterrupt(), "/what", "/help", "/peers", "/exit", "never read"))
    shown = capsys.readouterr().err
    assert "Ctrl-D or /exit leaves" in shown
    assert "no such command" in shown
    assert "no answer yet" in shown
    assert asked == []


def test_an_error_ends_the_answer_and_is_told(capsys):
    chat, output, asked, _, notes = chat_of(Said([], error=UsageFault("the prompt is too long")), Said(["ok"]))
    with LoopThread() as loop:
        converse(chat, loop, output, lines("long", "short"))
    assert "the prompt is too long" in notes.getvalue()
    assert [message["content"] for message in asked[1]] == ["short"]


def test_a_bug_is_not_swallowed():
    chat, output, *_ = chat_of(Said([], error=RuntimeError("bug")))
    with LoopThread() as loop, pytest.raises(RuntimeError, match="bug"):
        converse(chat, loop, output, lines("hi"))
