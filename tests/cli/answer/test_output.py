import io

import pytest

from swarm.cli.answer.output import Output, make_trace, sentence_of
from swarm.trace import Event


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_file_gets_the_text_and_nothing_else():
    text, notes = io.StringIO(), io.StringIO()
    output = Output(text, notes)
    output.text("def ")
    output.note("a worker was lost")
    output.text("f")
    output.text("")
    output.end_text()
    assert text.getvalue() == "def f"
    assert notes.getvalue() == "swarm: a worker was lost\n"


def test_on_a_terminal_notes_have_lines_of_their_own():
    screen = Terminal()
    output = Output(screen, screen)
    output.text("def ")
    output.note("lost")
    output.text("f()")
    output.end_text()
    output.note("bye")
    assert screen.getvalue() == "def \nswarm: lost\nf()\nswarm: bye\n"


def test_a_terminal_is_shown_control_characters_and_a_file_is_given_them():
    """An answer and a fault may be what a stranger's worker makes of them."""
    wicked = "a\x1b]52;c;\x07\x9b\r\x7fb\tc\n"
    screen, file = Terminal(), io.StringIO()
    for stream in (screen, file):
        output = Output(stream, stream)
        output.text(wicked)
        output.note("peer said \x1b[2J")
    shown = "a\u241b]52;c;\u2407\ufffd\u240d\u2421b\tc\n"
    assert screen.getvalue() == f"{shown}swarm: peer said \u241b[2J\n"
    assert file.getvalue() == f"{wicked}swarm: peer said \x1b[2J\n"


def test_a_note_is_not_repeated_until_there_is_news():
    notes = io.StringIO()
    output = Output(io.StringIO(), notes)
    for text in ("waiting", "waiting", "found", "waiting"):
        output.note(text)
    assert notes.getvalue().split("\n") == ["swarm: waiting", "swarm: found", "swarm: waiting", ""]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event("session.wait", "failed", {"missing": "layers 3-5"}), "waiting for a worker: layers 3-5"),
        (
            Event("session.failover", "started", {"peer": "aa", "layers": "3-5", "error": "reset"}),
            "peer aa failed (reset): replacing it for layers 3-5",
        ),
        (
            Event("session.failover", "complete", {"layers": "3-5", "to": "bb", "rows": 7, "seconds": 0.2}),
            "recovered in 0.2 s: layers 3-5 are with bb, 7 rows were replayed",
        ),
        (Event("session.audit", "failed", {"lost": "aa", "layers": "3-5"}), "third peer"),
        (Event("session.exactness", "failed", {}), "the replacement computes in another numerics class"),
        (
            Event("session.exactness", "failed", {"opening": True}),
            "the workers of this chain compute in different numerics classes: the answer is not bit-exact",
        ),
        (
            Event("peers.ban", "complete", {"peer": "aa", "seconds": 86400.0, "reason": "layers 3-5: other bits"}),
            "peer aa lied, and an answer that it took part in may be wrong: it is banned for 24 h (layers 3-5: other bits)",
        ),
        (
            Event("peers.ban", "failed", {"peer": "aa", "error": "the disk is full"}),
            "banned while this runs, but the disk",
        ),
        (
            Event("audit", "failed", {"peer": "aa", "by": "bb", "layers": "3-5", "verdict": "unsettled"}),
            "peer aa and others (bb) computed different rows for layers 3-5, and nobody can say who is right",
        ),
    ],
)
def test_what_happens_in_a_session_is_told(event, said):
    assert said in sentence_of(event)
    notes = io.StringIO()
    trace = make_trace(False, Output(io.StringIO(), notes))
    getattr(trace, event.phase)(event.name, **event.details)
    assert said in notes.getvalue()


def test_other_events_are_for_verbose_logs():
    assert sentence_of(Event("worker.step", "complete", {})) is None
    assert sentence_of(Event("audit", "failed", {"verdict": "differs"})) is None  # the ban is told


class Broken(io.StringIO):
    """A stream whose reader has left."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_note_that_nobody_can_read_stops_nothing() -> None:
    text = io.StringIO()
    output = Output(text, Broken())
    output.note("one")
    output.text("said")
    output.note("another")
    assert text.getvalue() == "said"
