import asyncio
import io
import json
import os
import pty
import subprocess
import sys

from click.testing import CliRunner
from rich.console import Console
from support.processes import SwarmProcess, close_all
from support.records import SHOWN_AT, identity, shown_record

from swarm.cli import main
from swarm.cli.status.survey import Health
from swarm.cli.top.pulse import Pulse
from swarm.cli.top.sightings import MAX_GONE, Sightings
from swarm.cli.top.view import data, frame, printed
from swarm.errors import PeerLost
from swarm.records import ModelRef, PeerState
from swarm.trace import Trace
from swarm.wire.messages import Load

GONE = Health(None, None, "the connection was closed")


def well(sessions=0, cache=900, step=0.0):
    return Health(Load(0, sessions, cache, step), 0.0012)


class Watched:
    """A swarm that is looked at once a second; `health` None: as it was."""

    def __init__(self, *records):
        self.sightings = Sightings(0.0)
        self.now = 0.0
        self.look(*records)

    def look(self, *records, **health):
        """Health by the number of the worker, as `w1`; everybody else is well."""
        numbers = {identity(n).peer_id: f"w{n}" for n in range(1, 100)}
        self.now += 1.0
        self.sightings.find(self.now, records)
        watched = [each.peer_id for each in self.sightings.watched()]
        self.sightings.judge(self.now, {peer: health.get(numbers[peer], well()) for peer in watched})
        return self

    def said(self):
        return [each.text for each in self.sightings.happenings]

    def states(self):
        return [seen.state for seen in self.sightings.workers.values()]

    def shown(self, width=80, height=24, banned=frozenset(), skip=0):
        console = Console(file=io.StringIO(), width=width, height=height, highlight=False)
        lines, self.skipped = frame(self.sightings, self.now, console, banned, "192.0.2.1:7700", skip)
        return ["".join(segment.text for segment in line) for line in lines]


A, B, C = shown_record(1, 0, 4), shown_record(2, 4, 8), shown_record(3, 4, 8)


def test_who_answers_no_more_is_a_fault_and_its_layers_are_a_hole():
    watched = Watched(A, B).look(A, B, w2=GONE)
    assert watched.states() == ["serving", "no answer"]
    assert watched.sightings.faults == 1
    assert f"{B.peer_id.short} (layers 4-7) does not answer: the connection was closed" in watched.said()
    assert watched.said()[-1] == "nobody serves layers 4-7 of tiny bf16"
    watched.look(A, B, w2=GONE)
    assert watched.sightings.faults == 1
    watched.look(A, B)
    assert watched.said()[-2:] == [f"{B.peer_id.short} answers again", "every layer of tiny bf16 is served again"]


def test_who_is_listed_no_more_and_silent_has_vanished_and_may_come_back():
    watched = Watched(A, B).look(A, B, w2=GONE).look(A, w2=GONE)
    assert watched.states() == ["serving", "vanished"]
    assert watched.said()[-1] == f"{B.peer_id.short} vanished with layers 4-7"
    assert [each.peer_id for each in watched.sightings.watched()] == [A.peer_id]
    watched.look(A, B)
    assert watched.states() == ["serving", "vanished"], "a record from before it vanished proves nothing"
    watched.look(A, shown_record(2, 4, 8, sequence=2))
    assert watched.states() == ["serving", "serving"]
    assert f"{B.peer_id.short} is back with layers 4-7 of tiny" in watched.said()
    assert watched.sightings.workers[B.peer_id].faults == 1


def test_who_answers_is_there_although_no_directory_lists_it():
    assert Watched(A, B).look().states() == ["unlisted", "unlisted"]


def test_who_drains_and_is_silent_has_left_without_a_fault():
    draining = shown_record(2, 4, 8, state=PeerState.DRAINING, sequence=2)
    watched = Watched(A, B).look(A, draining)
    assert watched.states() == ["serving", "draining"]
    watched.look(A, draining, w2=GONE)
    assert (watched.states(), watched.sightings.faults) == (["serving", "left"], 0)


def test_who_says_that_it_left_is_gone_at_once_and_no_older_word_of_it_counts():
    farewell = shown_record(2, 4, 8, state=PeerState.GONE, sequence=2)
    watched = Watched(A, B).look(A, farewell, w2=well())
    assert (watched.states(), watched.sightings.faults) == (["serving", "left"], 0)
    assert f"{B.peer_id.short} left with layers 4-7" in watched.said()
    assert watched.look(A, B).look(A, farewell).states() == ["serving", "left"]
    assert watched.look(A, shown_record(2, 0, 4, sequence=3)).states() == ["serving", "serving"]
    assert Watched(A, farewell).states() == ["serving"], "nobody asks for whom they never saw"


def test_those_that_are_gone_are_forgotten_in_the_end():
    crowd = [shown_record(number, 0, 8) for number in range(1, MAX_GONE + 10)]
    watched = Watched(*crowd).look(**{f"w{number}": GONE for number in range(1, MAX_GONE + 10)})
    assert len(watched.sightings.workers) == MAX_GONE


def test_changes_are_counted_over_the_last_seconds():
    watched = Watched(A)
    for second in range(20):
        watched.look(A, w1=well(sessions=second // 5, cache=10_000 - 100 * second, step=0.02))
    (seen,) = watched.sightings.workers.values()
    assert (seen.new_sessions, round(seen.cache_rate), seen.speed) == (2, 100, 50.0)
    assert watched.sightings.sessions == (3, 2)
    assert Watched(A).sightings.workers[A.peer_id].speed == 120.0


def test_a_narrow_terminal_is_filled_and_not_exceeded():
    watched = Watched(A, B).look(A, B, w1=well(sessions=2)).look(A, B, w1=well(sessions=2), w2=GONE)
    lines = watched.shown()
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    assert "2 workers   sessions 2 (+2 in 10 s)   faults 1" in lines[0]
    assert "nobody serves layers 4-7" in lines[2]
    text = "\n".join(lines)
    for word in ("████····", "no answer", "replicas", "11110000", "tok/s", "mem", "75%", "2+2", "q leaves"):
        assert word in text


def test_holes_are_red_on_a_terminal_with_colours():
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system="standard", highlight=False)
    printed(Watched(A).sightings, 2.0, console, frozenset(), "here")
    assert "\x1b[1;31mnobody serves layers 4-7" in file.getvalue()
    assert file.getvalue().count("\x1b[1;37;41m") >= 1


def test_what_does_not_fit_is_scrolled_to():
    watched = Watched(*(shown_record(number, 0, 8) for number in range(1, 31)))
    assert "13 more lines: j and k scroll" in watched.shown()[-1]
    assert "replicas" not in "\n".join(watched.shown())
    assert "replicas" in "\n".join(watched.shown(skip=1000))
    assert watched.skipped < 1000


def test_a_large_model_fits_too():
    lines = Watched(shown_record(1, 0, 126, model=ModelRef("large", bytes(32), 126))).shown()
    assert max(map(len, lines)) <= 80
    assert "0-125" in "\n".join(lines)


def test_a_banned_worker_is_marked():
    assert any("banned" in line for line in Watched(A).shown(banned=frozenset({A.peer_id})))


def test_an_empty_swarm_is_shown():
    assert "no worker serves a model yet" in "\n".join(Watched().shown())


def test_the_data_for_programs_is_plain_and_says_what_changed():
    watched = Watched(A, B).look(A, B, w2=GONE).look(A, w2=GONE)
    told = json.loads(json.dumps(data(watched.sightings, watched.now, SHOWN_AT, frozenset())))
    assert told["models"][0]["missing"] == ["4-7"]
    assert told["models"][0]["workers"][0]["state"] == "serving"
    assert (told["faults"], told["watched_seconds"]) == (1, 3.0)
    assert told["gone"] == [{"peer": str(B.peer_id), "layers": "4-7", "state": "vanished"}]
    assert told["happenings"][-1] == {
        "seconds_ago": 0.0,
        "text": f"{B.peer_id.short} vanished with layers 4-7",
        "bad": True,
    }


class Nowhere:
    """A network without a way to anybody."""

    async def connect(self, address, expect, reached=None):
        raise PeerLost("no route")


def test_who_cannot_be_reached_is_told_so_and_nobody_is_asked_who_is_not_watched():
    async def scenario():
        async with Pulse(Nowhere(), 0.01, Trace()) as pulse:
            pulse.watch([A])
            await pulse.settled(10)
            assert pulse.health[A.peer_id].error
            pulse.watch([])
            assert pulse.health == {}

    asyncio.run(scenario())


def test_to_watch_takes_neither_torch_nor_an_editor():
    program = (
        "import sys, swarm.cli.top.top, swarm.cli.top.view\n"
        "sys.exit(bool({'torch', 'prompt_toolkit'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)


def test_a_swarm_is_watched_as_it_is(tmp_path, monkeypatch):
    """Once and for programs; then on a terminal, where q leaves and the screen is given back."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    processes = [SwarmProcess.server("worker", tmp_path, "--model", "demo", "--layers", "0-11", "--threads", "1")]
    try:
        place = processes[0].ready().address
        once = CliRunner().invoke(main, ["top", "--bootstrap", place, "--once"])
        assert (once.exit_code, "nobody serves layers 12-23" in once.stdout) == (0, True), once.stderr
        told = CliRunner().invoke(main, ["top", "--bootstrap", place, "--once", "--json"])
        assert json.loads(told.stdout)["models"][0]["missing"] == ["12-23"]
        assert on_a_terminal(["top", "--bootstrap", place, "--every", "0.2"], b"q leaves", b"q") == 0
    finally:
        close_all(processes)


def on_a_terminal(arguments, until, key):
    """The exit code of a command that is given a key once it has shown something."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "swarm", *arguments]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        seen = b""
        while until not in seen:
            seen += os.read(ours, 4096)
        os.write(ours, key)
        while b"\x1b[?1049l" not in seen:  # the other screen again
            seen += os.read(ours, 4096)
        return process.wait(30)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
