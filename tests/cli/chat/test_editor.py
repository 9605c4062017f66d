"""The editor of the chat's lines, with keys from a pipe and a screen that shows nothing."""

import os
import pty

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from swarm.cli.chat.commands import words
from swarm.cli.chat.keys import Keys
from swarm.cli.chat.lines import MAX_HISTORY_BYTES, Editor, bounded_history, completer


@pytest.fixture
def terminal():
    ours, theirs = pty.openpty()
    yield theirs
    os.close(ours)
    os.close(theirs)


def typed(terminal, text, history=None, ahead=""):
    keys = Keys(terminal)
    keys._ahead.text = ahead
    with create_pipe_input() as pipe:
        pipe.send_text(text)
        editor = Editor(keys, history, words(), lambda: "ready", pipe, DummyOutput())
        lines = []
        try:
            while True:
                lines.append(editor.read())
        except EOFError:
            return lines


def test_enter_sends_and_alt_enter_begins_another_line(terminal):
    assert typed(terminal, "one\x1b\rtwo\rthree\r\x04") == ["one\ntwo", "three"]


def test_pasted_lines_stay_together(terminal):
    assert typed(terminal, "see: \x1b[200~a\nb\n\x1b[201~\r\x04") == ["see: a\nb\n"]


def test_what_was_typed_during_an_answer_comes_first(terminal):
    assert typed(terminal, " end\r\x04", ahead="one\nbegin") == ["one", "begin end"]


def test_ctrl_d_that_was_typed_ahead_leaves(terminal):
    assert typed(terminal, "", ahead="one\n\x04") == ["one"]


def test_tab_completes_commands_and_what_may_follow(terminal):
    assert typed(terminal, "/sta\t\r/set tempe\t0.5\r\x04") == ["/stats", "/set temperature0.5"]


def test_files_are_completed_and_messages_are_not(tmp_path):
    (tmp_path / "talk.json").write_text("")

    def completions(text):
        return [each.text for each in completer(words()).get_completions(Document(text), CompleteEvent())]

    assert completions(f"/load {tmp_path}/ta") == ["lk.json"]
    assert completions("hello /st") == []
    assert completions("/s") == ["/system", "/set", "/stats", "/save"]
    assert completions("/set top") == ["top_k", "top_p"]


def test_lines_are_found_again_by_the_next_chat(terminal, tmp_path):
    history = tmp_path / "data" / "chat_history"
    typed(terminal, "one\x1b\rtwo\r\x04", history)
    assert history.stat().st_mode & 0o777 == 0o600
    assert typed(terminal, "\x1b[A\r\x04", history) == ["one\ntwo"]


def test_a_history_is_bounded_and_keeps_what_was_said_last(tmp_path):
    path = tmp_path / "history"
    history = bounded_history(path)
    for number in range(50):
        history.store_string(f"{number} " + "x" * (MAX_HISTORY_BYTES // 40))
    kept = list(bounded_history(path).load_history_strings())
    assert path.stat().st_size <= MAX_HISTORY_BYTES
    assert kept[0].startswith("49 ")
    assert len(kept) >= 10


def test_a_history_that_cannot_be_kept_is_done_without(terminal, tmp_path):
    (tmp_path / "file").write_text("")
    assert typed(terminal, "one\r\x04", tmp_path / "file" / "history") == ["one"]
