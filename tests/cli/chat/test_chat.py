import asyncio
import io
import threading
import types
from contextlib import asynccontextmanager

import pytest

from swarm.cli.answer.request import Request
from swarm.cli.chat.chat import Chat, converse
from swarm.cli.chat.connection import Link
from swarm.cli.chat.keys import Press
from swarm.cli.chat.notes import ChatOutput
from swarm.cli.chat.screens import PlainScreen
from swarm.cli.chat.settings import Settings
from swarm.cli.chat.thread import LoopThread
from swarm.client.generate import Timings
from swarm.errors import NoSwarm, UsageFault
from swarm.trace import Event


class Said:
    """An answer of scripted texts; one that has nothing more to say waits to be stopped."""

    context_full = False
    cached_tokens = 0
    prompt_ids = (1, 2, 3)

    def __init__(self, texts, *, endless=False, error=None, happens=None):
        self.text = ""
        self.token_ids = []
        self.session = types.SimpleNamespace()
        self.timings = Timings(0.1, 0.2, 0.5, 0.05)
        self.finish_reason = None
        self.options = None
        self.waiting = threading.Event()
        self._texts, self._endless, self._error, self._happens = texts, endless, error, happens

    async def __aiter__(self):
        for text in self._texts:
            self.text += text
            self.token_ids.append(len(self.token_ids))
            yield types.SimpleNamespace(text=text)
        if self._happens is not None:
            self._happens()
        if self._error is not None:
            raise self._error
        if self._endless:
            self.waiting.set()
            await asyncio.Event().wait()
        self.finish_reason = "stop"

    async def aclose(self):
        pass


class Model(types.SimpleNamespace):
    def __str__(self):
        return self.name


class Speaker:
    """A client that gives these answers in turn."""

    model = Model(name="tiny", layer_count=4)

    def __init__(self, *answers):
        self.asked, self.options = [], []
        self._left = iter(answers)

    @property
    def banned(self):
        asyncio.get_running_loop()  # as swarm time is told there only
        return frozenset()

    def generate(self, messages, options):
        self.asked.append(messages)
        self.options.append(options)
        answer = next(self._left)
        answer.options = options
        return answer


class Stage:
    """A chat over a scripted client; `talk` types lines, an exception is what happens instead, a function is called first."""

    def __init__(self, *answers, request=None, pressed=None, unreachable=()):
        self.speaker = Speaker(*answers)
        self.text, self.notes = io.StringIO(), io.StringIO()
        self.requests = []
        self.output = ChatOutput(self.text, self.notes)
        self._request = request or Request(local=True, drawn_seed=7)
        self._pressed = pressed
        self._unreachable = unreachable

    @asynccontextmanager
    async def _open(self, request):
        self.requests.append(request)
        if request.bootstrap in self._unreachable:
            raise NoSwarm("no bootstrap answered")
        yield self.speaker

    def talk(self, *said, settings=None):
        left = iter(said)

        def read():
            line = next(left, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line() if callable(line) else line

        with LoopThread() as loop:
            link = Link(self._request, loop, self._open)
            link.open()
            self.chat = Chat(
                link,
                self.output,
                settings or Settings(),
                lambda: PlainScreen(self.output, terminal=False),
                self._pressed,
                draw=iter(range(100, 200)).__next__,
            )
            try:
                converse(self.chat, read)
            finally:
                link.close()
        return self

    def said_to(self, index):
        return [message["content"] for message in self.speaker.asked[index]]


def test_a_conversation_is_kept_until_it_is_cleared():
    stage = Stage(Said(["Hel", "lo"]), Said(["Again"]), Said(["New"])).talk("hi", "", "more", "/clear", "start")
    assert stage.text.getvalue() == "HelloAgainNew"
    assert [stage.said_to(index) for index in range(3)] == [["hi"], ["hi", "Hello", "more"], ["start"]]
    assert stage.speaker.asked[1][1]["role"] == "assistant"


def pressing(answer, *presses):
    """Keys that are pressed once `answer` has said what it has to say."""
    left = list(presses)

    def pressed(seconds):
        if answer.waiting.wait(seconds) and left:
            press = left.pop(0)
            if press is KeyboardInterrupt:
                raise press
            return press
        return None

    return pressed


@pytest.mark.parametrize("press", [KeyboardInterrupt, Press.STOP])
def test_ctrl_c_or_space_stops_the_answer_and_not_the_chat(press):
    endless = Said(["Once upon"], endless=True)
    stage = Stage(endless, Said(["Sure"]), pressed=pressing(endless, press)).talk("tell", "go on")
    assert stage.text.getvalue() == "Once uponSure"
    assert "stopped" in stage.notes.getvalue()
    assert stage.said_to(1) == ["tell", "Once upon", "go on"]


def test_ctrl_d_during_an_answer_leaves_when_it_has_ended():
    brief = Said(["All"], happens=lambda: brief.waiting.set())
    stage = Stage(brief, pressed=pressing(brief, Press.LEAVE)).talk("tell", UsageFault("never read"))
    assert stage.text.getvalue() == "All"


def test_ctrl_d_twice_leaves_at_once():
    endless = Said(["Once"], endless=True)
    stage = Stage(endless, pressed=pressing(endless, Press.LEAVE, Press.LEAVE)).talk("tell", UsageFault("never read"))
    assert stage.text.getvalue() == "Once"


def test_ctrl_c_at_the_prompt_and_unknown_commands_do_no_harm(capsys):
    stage = Stage().talk(KeyboardInterrupt(), "/hlep", "/zzz", "/help", "/peers", "/exit", "never read")
    shown, notes = capsys.readouterr().err, stage.notes.getvalue()
    assert "Ctrl-D or /exit leaves" in shown
    assert "no such command: /hlep; /help is one" in notes
    assert "no such command: /zzz; /help lists them" in notes
    assert "/retry" in shown
    assert "computed in this process" in shown
    assert stage.speaker.asked == []


def test_what_only_looks_like_a_command_is_a_message():
    stage = Stage(Said(["a"]), Said(["b"]), Said(["c"])).talk("/usr/bin is what?", "/* x */", "//help")
    assert [stage.said_to(index)[-1] for index in range(3)] == ["/usr/bin is what?", "/* x */", "/help"]


def test_an_error_ends_the_answer_and_is_told():
    stage = Stage(Said([], error=UsageFault("the prompt is too long")), Said(["ok"])).talk("long", "short")
    assert "the prompt is too long" in stage.notes.getvalue()
    assert stage.said_to(1) == ["short"]


def test_a_bug_is_not_swallowed():
    with pytest.raises(RuntimeError, match="bug"):
        Stage(Said([], error=RuntimeError("bug"))).talk("hi")


def test_retry_asks_the_last_question_again_with_another_seed():
    settings = Settings({"temperature": 0.5})
    stage = Stage(Said(["one"]), Said(["two"]), Said(["three"])).talk("hi", "/retry", "/retry", settings=settings)
    assert [stage.said_to(index) for index in range(3)] == [["hi"]] * 3
    assert [options.sampling.seed for options in stage.speaker.options] == [7, 100, 101]
    assert [message["content"] for message in stage.chat.conversation.messages] == ["hi", "three"]


def test_retry_keeps_a_seed_that_was_set_and_says_when_nothing_can_change(capsys):
    stage = Stage(Said(["one"]), Said(["one"])).talk("/retry", "/set seed 5", "hi", "/retry")
    assert [options.sampling.seed for options in stage.speaker.options] == [5, 5]
    assert "nothing was asked yet" in stage.notes.getvalue()
    assert "the answer will be the same" in stage.notes.getvalue()


def test_a_retry_that_fails_leaves_the_answer_that_was_there():
    stage = Stage(Said(["one"]), Said([], error=UsageFault("no"))).talk("hi", "/retry")
    assert [message["content"] for message in stage.chat.conversation.messages] == ["hi", "one"]


def test_the_system_message_comes_first_and_survives_clear(capsys):
    stage = Stage(Said(["a"]), Said(["b"])).talk("/system", "/system Be brief.", "x", "/clear", "/system none", "y")
    assert stage.speaker.asked[0][0] == {"role": "system", "content": "Be brief."}
    assert stage.said_to(1) == ["y"]
    assert "/system TEXT sets one" in capsys.readouterr().err


def test_settings_reach_the_answer_and_wrong_ones_change_nothing(capsys):
    stage = Stage(Said(["a"])).talk("/set temperature 0.7", "/set top-p 2", "/set warmth 3", "/set", "x")
    assert stage.speaker.options[0].sampling.temperature == 0.7
    assert "top_p must be above 0 and at most 1, not 2" in stage.notes.getvalue()
    assert "nothing named 'warmth'" in stage.notes.getvalue()
    assert "* temperature         0.7" in capsys.readouterr().err


def test_a_chat_is_saved_and_gone_on_with(tmp_path, capsys):
    file = tmp_path / "chat.json"
    Stage(Said(["one"])).talk("/set top_k 4", "hi", f"/save {file}")
    stage = Stage(Said(["two"])).talk(f"/load {file}", "more", "/load", f"/load {tmp_path / 'absent'}")
    assert stage.said_to(0) == ["hi", "one", "more"]
    assert stage.speaker.options[0].sampling.top_k == 4
    assert "/load FILE" in stage.notes.getvalue()
    assert "absent cannot be read" in stage.notes.getvalue()


def test_stats_tell_of_the_last_answer(capsys):
    Stage(Said(["one", "two", "three"])).talk("/stats", "hi", "/stats", "/chain")
    shown = capsys.readouterr().err
    for line in ("no answer yet", "3 tokens, complete", "4.00", "300 ms", "50 ms", "yes"):
        assert line in shown


def test_connect_joins_another_swarm_and_stays_where_it_was_if_that_fails():
    here, there, nowhere = ((("192.0.2.1", 7700),), (("192.0.2.2", 7700),), (("192.0.2.3", 7700),))
    request = Request(bootstrap=here, chain=("00" * 32,))
    stage = Stage(request=request, unreachable=(nowhere,))
    stage.talk("/connect", "/connect 192.0.2.2:7700", "/connect 192.0.2.3:7700", "/chain zz", "/chain aabbccdd")
    assert [each.bootstrap for each in stage.requests] == [here, there, nowhere, there, there]
    assert [each.chain for each in stage.requests][1:] == [(), (), (), ("aabbccdd",)]
    assert "no bootstrap answered" in stage.notes.getvalue()
    assert "'zz' is no peer id" in stage.notes.getvalue()


def test_without_any_swarm_the_chat_goes_on_and_says_what_to_do():
    here, nowhere = ((("192.0.2.1", 7700),), (("192.0.2.3", 7700),))
    unreachable = [nowhere]

    def move():
        unreachable.append(here)
        return "/connect 192.0.2.3:7700"

    def heal():
        unreachable.remove(here)
        return "/connect 192.0.2.1:7700"

    stage = Stage(Said(["ok"]), request=Request(bootstrap=here), unreachable=unreachable)
    stage.talk(move, "hi", "/retry", "/save x", heal, "hi")
    assert stage.notes.getvalue().count("no swarm is joined: /connect HOST:PORT") == 3
    assert stage.text.getvalue() == "ok"


def test_the_workers_of_the_swarm_are_looked_up_where_the_client_lives(monkeypatch, capsys):
    async def look(bootstrap, swarm_key, verbose):
        return [], {}, 0.0

    monkeypatch.setattr("swarm.cli.status.status.look", look)
    Stage(request=Request(bootstrap=(("192.0.2.1", 7700),))).talk("/peers")
    assert "no worker serves a model yet" in capsys.readouterr().err


def test_a_chain_by_hand_needs_a_swarm():
    stage = Stage().talk("/chain aabbccdd")
    assert "/connect HOST:PORT joins a swarm" in stage.notes.getvalue()


def test_what_is_waited_for_is_told_once_until_there_is_progress():
    def wait():
        for _ in range(3):
            stage.output.listen(Event("session.wait", "failed", {"missing": "layers 3-5"}))

    stage = Stage(Said([], happens=wait))
    stage.talk("hi")
    assert stage.notes.getvalue() == "swarm: waiting for a worker: layers 3-5\n"
    stage.output.listen(Event("session.audit", "failed", {"lost": "aa", "layers": "3-5"}))
    assert "third peer" in stage.notes.getvalue()


def test_a_failover_is_one_line_that_does_not_tear_the_text():
    def fail():
        stage.output.listen(
            Event("session.failover", "started", {"peer": "aa", "layers": "3-5", "error": "reset"}),
        )
        stage.output.listen(
            Event("session.failover", "complete", {"layers": "3-5", "to": "bb", "rows": 7, "seconds": 0.2}),
        )

    stage = Stage(Said(["half a "], happens=fail))
    stage.talk("hi")
    assert stage.text.getvalue() == "half a "
    assert stage.notes.getvalue() == "swarm: layers 3-5 moved from aa to bb in 0.2 s, 7 rows replayed\n"
