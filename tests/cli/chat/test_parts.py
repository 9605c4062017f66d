import io
import json
import os
import pty
import re
from itertools import pairwise

import pytest
from rich.console import Console

from swarm.cli.answer.output import Output
from swarm.cli.chat.blocks import ending, finished, visible, with_breaks
from swarm.cli.chat.commands import split, words
from swarm.cli.chat.conversation import Conversation, load, save
from swarm.cli.chat.keys import Ahead, Keys, Press, held
from swarm.cli.chat.screens import LiveScreen, PlainScreen
from swarm.cli.chat.settings import SETTINGS, Settings
from swarm.client.generate import Options
from swarm.errors import UsageFault
from swarm.sampling import Sampling

MARKDOWN = """\
# Title

A paragraph
of two lines.

- one

  still one
- two

```python
x = 1

# no heading
```
After.

1. first

2. second

The end"""


def test_blocks_are_finished_when_nothing_can_change_them_any_more():
    ends = sorted({finished(MARKDOWN[:length]) for length in range(len(MARKDOWN) + 1)})
    assert [MARKDOWN[start:end].strip() for start, end in pairwise(ends)] == [
        "# Title",
        "A paragraph\nof two lines.",
        "- one\n\n  still one\n- two",
        "```python\nx = 1\n\n# no heading\n```",
        "After.",
        "1. first\n\n2. second",
    ]


def test_what_is_finished_stays_finished_however_the_text_comes():
    done = 0
    for length in range(len(MARKDOWN) + 1):
        assert finished(MARKDOWN[:length]) >= done
        done = finished(MARKDOWN[:length])


def test_a_fence_is_not_left_by_blank_lines_or_shorter_marks():
    assert finished("````\na\n\n```\n\nb\n") == 0
    assert finished("````\na\n````\n") == len("````\na\n````\n")


def test_of_a_long_block_the_last_lines_are_enough():
    assert ending("a\nb\nc", 100) == "a\nb\nc"
    assert ending("```py\n" + "x\n" * 50, 6) == "```py\nx\nx\n"
    assert ending("word\n" * 50, 12) == "word\nword\n"
    assert ending("x" * 50, 12) == "x" * 12


def test_line_ends_are_kept_outside_of_fences_only():
    assert with_breaks("a\nb\n```\nc\n```") == "a  \nb  \n```\nc\n```"


def test_a_model_cannot_steer_the_terminal():
    assert visible("\x1b]0;title\x07 \x9b31m\ttab\n") == "␛]0;title␇ \ufffd31m\ttab\n"


def drawn(*texts, height=10, notes=(), markdown=True):
    file = io.StringIO()
    console = Console(file=file, width=40, height=height, force_terminal=True, color_system=None, legacy_windows=False)
    with LiveScreen(console, lambda: markdown) as screen:
        for text in texts:
            screen.show(text, f"{len(text)} characters")
            for note in notes:
                screen.note(note, 0.0)
    return file.getvalue()


def growing(text, step=3):
    return [text[:end] for end in (*range(step, len(text), step), len(text))]


def screen_of(written):
    """What a terminal shows in the end: enough of one for what is drawn."""
    rows, row, column, position = [""], 0, 0, 0
    while position < len(written):
        if written[position] == "\x1b":
            end = position + 2
            while not written[end].isalpha():
                end += 1
            code, amount = written[end], written[position + 2 : end]
            if code == "A":
                row -= int(amount or 1)
            elif code == "K":
                rows[row] = ""
            position = end + 1
            continue
        if written[position] == "\n":
            row, column = row + 1, 0
            if row == len(rows):
                rows.append("")
        elif written[position] == "\r":
            column = 0
        else:
            rows[row] = rows[row][:column] + written[position]
            column += 1
        position += 1
    return "\n".join(line.rstrip() for line in rows).rstrip("\n")


def test_markdown_is_drawn_as_it_comes_and_stays_as_if_it_had_come_at_once():
    stepwise, at_once = screen_of(drawn(*growing(MARKDOWN))), screen_of(drawn(MARKDOWN))
    assert list(filter(None, stepwise.split("\n"))) == list(filter(None, at_once.split("\n")))
    assert "of two lines." in stepwise
    assert "characters" not in stepwise


def test_of_a_tall_block_only_as_much_is_drawn_anew_as_the_terminal_has_rows():
    text = "```\n" + "".join(f"line {number}\n" for number in range(200)) + "```\n"
    written = drawn(*growing(text, 50), height=10)
    climbs = re.findall(r"(?:\x1b\[1A\x1b\[2K)+", written)  # over what is drawn anew
    assert 1 < max(climb.count("A") for climb in climbs) <= 10
    shown = screen_of(written)
    assert [f"line {number}" in shown.splitlines()[number] for number in range(200)] == [True] * 200


def test_mere_text_stays_as_it_is_above_the_status_line():
    text = "def __init__(self):\n    return 1\n\n\n" + "x" * 60 + "\nend"
    written = drawn(*growing(text), markdown=False)
    assert screen_of(written) == text
    assert "characters" in written


def test_nothing_is_written_while_nothing_changes():
    assert drawn("a", "a", "a") == drawn("a")


def test_a_note_stands_above_the_block_that_is_being_written():
    shown = screen_of(drawn("half a ", "half a line", notes=("recovered",)))
    assert shown.splitlines()[0] == "swarm: recovered"
    assert shown.splitlines()[-1] == "half a line"


def plain():
    text, notes = io.StringIO(), io.StringIO()
    return PlainScreen(Output(text, notes), terminal=True), text, notes


def test_in_plain_text_a_note_waits_for_the_end_of_the_line_though_not_for_long():
    screen, text, notes = plain()
    with screen:
        screen.show("half", "")
        screen.note("lost", 10.0)
        assert notes.getvalue() == ""
        screen.note("", 11.0)
        assert notes.getvalue() == ""
        screen.note("", 12.5)
        assert notes.getvalue() == "swarm: lost\n"
        screen.note("again", 13.0)
        screen.show("half a line\nand", "")
        assert "again" in notes.getvalue()
    assert text.getvalue() == "half a line\nand"


def test_every_option_of_an_answer_can_be_set_by_the_name_that_it_has():
    typed = {
        "temperature": "0.7",
        "top_k": "5",
        "top_p": "0.9",
        "min_p": "0.1",
        "repetition_penalty": "1.1",
        "presence_penalty": "-0.5",
        "frequency_penalty": "0.5",
        "logit_bias": "5:-100,17:2.5",
        "seed": "3",
        "max_tokens": "none",
        "stop": '["a","b"]',
        "ignore_eos": "on",
        "markdown": "off",
    }
    assert typed.keys() == SETTINGS.keys()
    settings = Settings.from_data(typed)
    options = settings.options(0)
    assert options.sampling == Sampling(0.7, 5, 0.9, 0.1, 1.1, 3, -0.5, 0.5, ((5, -100.0), (17, 2.5)))
    assert (options.max_tokens, options.stop, options.ignore_eos) == (None, ("a", "b"), True)
    assert settings.markdown is False
    assert Settings.from_data(settings.as_data()) == settings
    for name in typed:
        settings = settings.set(name, "default")
    assert settings == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "-1"),
        ("temperature", "hot"),
        ("temperature", "nan"),
        ("top_k", "2.5"),
        ("top_p", "0"),
        ("min_p", "2"),
        ("repetition_penalty", "0"),
        ("presence_penalty", "3"),
        ("frequency_penalty", "-3"),
        ("logit_bias", "5"),
        ("logit_bias", "x:1"),
        ("seed", "1e5"),
        ("max_tokens", "0"),
        ("max_tokens", "²"),
        ("ignore_eos", "maybe"),
        ("markdown", "maybe"),
        ("stop", "[1]"),
        ("stop", '["a"'),
    ],
)
def test_what_is_out_of_range_is_named(name, value):
    with pytest.raises(UsageFault, match=name):
        Settings().set(name, value)


def test_what_the_command_line_said_is_set():
    options = Options(sampling=Sampling(temperature=0.5, seed=9), max_tokens=5, stop=("x",))
    assert Settings.of(options, None).given == {"temperature": 0.5, "max_tokens": 5, "stop": ("x",)}
    assert Settings.of(options, 9).given["seed"] == 9
    assert Settings.of(options, None).options(4).sampling.seed == 4


def spoken():
    return Conversation("Be brief.", [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hö"}])


def test_a_saved_chat_is_its_owners_and_comes_back(tmp_path):
    path = tmp_path / "chat"
    save(path, spoken(), {"top_k": "4"}, "tiny")
    save(path, spoken(), {"top_k": "5"}, "tiny")
    assert path.stat().st_mode & 0o777 == 0o600
    saved = load(path)
    assert (saved.conversation, saved.settings, saved.model) == (spoken(), {"top_k": "5"}, "tiny")
    assert [file.name for file in tmp_path.iterdir()] == ["chat"]


def test_a_file_that_holds_something_else_is_not_written_over(tmp_path):
    path = tmp_path / "letter"
    path.write_text("Dear all")
    with pytest.raises(UsageFault, match="letter is there and holds no saved chat"):
        save(path, spoken(), {}, "tiny")
    assert path.read_text() == "Dear all"
    with pytest.raises(UsageFault, match="cannot be written"):
        save(tmp_path / "absent" / "chat", spoken(), {}, "tiny")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("swarm_chat", 2),
        ("model", None),
        ("system", 5),
        ("settings", {"top_k": 4}),
        ("messages", "x"),
        ("messages", [{"role": "user", "content": "alone"}]),
        ("messages[0].role", [{"role": "tool", "content": "a"}] * 2),
        ("messages[1].content", [{"role": "user", "content": "a"}, {"role": "assistant", "content": 1}]),
    ],
)
def test_a_damaged_file_is_named_with_the_field(tmp_path, field, value):
    path = tmp_path / "chat"
    save(path, spoken(), {}, "tiny")
    path.write_text(json.dumps(json.loads(path.read_text()) | {field.partition("[")[0]: value}))
    with pytest.raises(UsageFault) as error:
        load(path)
    assert str(path) in str(error.value)
    assert field in str(error.value)


def test_commands_and_messages_are_told_apart():
    assert split("/set  temperature 0.7 ") == ("/set", "temperature 0.7")
    assert split("/system two\nlines") == ("/system", "two\nlines")
    assert split("/HELP") == ("/help", "")
    assert [split(text) for text in ("hi", "/usr/bin", "/* x */", "//help", "/")] == [None] * 5
    assert "temperature" in words()["/set"]


def test_keys_during_an_answer():
    ahead = Ahead()
    assert ahead.typed(b" ") is Press.STOP
    assert ahead.typed(b"\x04 ") is Press.LEAVE
    assert ahead.typed("nächste".encode()[:2]) is None
    assert ahead.typed("nächste".encode()[2:] + b" Frage\n\x04") is None
    assert ahead.take() == "nächste Frage\n\x04"
    assert ahead.typed(b" ") is Press.STOP


def test_a_terminal_that_is_held_gives_keys_one_by_one_and_loses_none():
    ours, theirs = pty.openpty()
    try:
        with held(theirs):
            os.write(ours, b"\x04")
            keys = Keys(theirs)
            assert keys.pressed(10) is Press.LEAVE
            os.write(ours, b"next")
            assert keys.pressed(10) is None
            assert keys.take() == "next"
            assert keys.pressed(0) is None
    finally:
        os.close(ours)
        os.close(theirs)
