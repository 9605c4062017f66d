"""Commands that the pages show are commands that exist."""

import re
import shlex
from pathlib import Path

import pytest

from swarm.cli import main
from swarm.membership import create_swarm_key

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ("README.md", "docs/GUIDE.md", "bootstrap/OPERATIONS.md")


def commands():
    """Lines that show a command, up to a comment or a redirection."""
    for page in PAGES:
        for line in (ROOT / page).read_text().splitlines():
            match = re.fullmatch(r"    swarm (\w.*)", line)
            if match:
                words = shlex.split(match[1], comments=True)
                yield words[: words.index(">")] if ">" in words else words


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_a_shown_command_parses(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if words[:2] != ["key", "new"]:
        create_swarm_key(Path("ours.key"))  # the pages make it first
    Path("friends.txt").write_text("00" * 32 + "\n")
    command = main.commands[words[0]]
    command.make_context(words[0], words[1:])


def test_there_are_commands_to_look_at():
    assert {words[0] for words in commands()} >= {"bootstrap", "worker", "client", "status"}


def test_the_two_commands_are_in_the_makefile():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    for target in ("demo", "test"):
        assert f"make {target}" in (ROOT / "README.md").read_text()


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
            assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"


def test_the_exit_codes_are_those_of_the_errors():
    from swarm import errors

    text = " ".join((ROOT / "README.md").read_text().split())
    listed = text[text.index("Exit codes: ") :]
    codes = {
        value.exit_code for value in vars(errors).values() if isinstance(value, type) and hasattr(value, "exit_code")
    }
    assert {code for code in codes - {1} if f" {code} " not in listed.replace(",", " , ")} == set()
