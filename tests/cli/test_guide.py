"""The guide's blocks, followed from the first to the last: in one private swarm of processes on loopback, with the demo model."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from support.processes import SwarmProcess, close_all

from swarm.cli import main
from swarm.config import WorkerConfig

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "GUIDE.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?<=\n\n)(?:    .*\n)+")
FIRST, GATEWAY, KEY_FILE, ALLOWED = "192.0.2.1:7700", "http://127.0.0.1:8080", "ours.key", "friends.txt"
UNTESTED = "executed by the tests, since"
UNTESTED_IMAGE = "The tests read these commands' options, but"


def flat(text: str) -> str:
    return " ".join(text.split())


def blocks() -> Iterator[tuple[str, list[str]]]:
    """What stands between two blocks, and the commands of the second one."""
    end = 0
    for block in BLOCK.finditer(TEXT):
        yield TEXT[end : block.start()], [line.strip() for line in block[0].splitlines()]
        end = block.end()


def commands(word: str) -> list[str]:
    """Those that begin with this word, without remarks and repetitions, in order."""
    lines = [line for _, block in blocks() for line in block if line.split()[0] == word]
    return list(dict.fromkeys(lines))


def test_each_block_is_executed_or_says_why_it_is_not() -> None:
    executed = {"swarm", "curl", "kill"}
    for before, block in blocks():
        if not {line.split()[0] for line in block} <= executed:
            assert UNTESTED in flat(before) or UNTESTED_IMAGE in flat(before), block
        else:
            assert UNTESTED not in flat(before), block


def test_what_runs_in_the_image_parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entry = json.loads((ROOT / "bootstrap/Containerfile").read_text().rpartition("ENTRYPOINT ")[2])
    runs = [shlex.split(line) for line in commands("podman") if line.startswith("podman run ")]
    assert len(runs) == 3
    for words in runs:
        image = len(words) - 1 - words[::-1].index("swarm")
        command = words[image + 1 :] if "--entrypoint" in words[:image] else [*entry[1:], *words[image + 1 :]]
        main.commands[command[0]].make_context(command[0], list(command[1:]))


def test_links_lead_somewhere_and_seconds_are_those_of_a_worker() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
    config = WorkerConfig()
    assert (
        f"up to {config.move_seconds:g} s where others hold all its layers, else up to {config.drain_seconds:g} s"
        in flat(TEXT)
    )


class Newcomer:
    """Somebody who follows the guide: addresses, ports and files are those of here."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.first = self.gateway = ""
        self.processes: list[SwarmProcess] = []
        self.left = [*commands("swarm"), *commands("curl")]

    def words(self, line: str) -> list[str]:
        self.left.remove(line)
        words = shlex.split(line, comments=True)[1:]
        here = {FIRST: self.first, KEY_FILE: str(self.home / KEY_FILE), ALLOWED: str(self.home / ALLOWED)}
        return [here.get(word, word) for word in words]

    def start(self, line: str, *more: str) -> SwarmProcess:
        """A server, at a free port."""
        mode, *words = self.words(line)
        if "--port" in words:
            at = words.index("--port")
            del words[at : at + 2]
        key = self.home / f"{mode}-{len(self.processes)}.key"
        own = () if "--local" in words else ("--key", str(key))
        environment = {"SWARM_KEY": str(self.home / KEY_FILE), "XDG_DATA_HOME": str(self.home)}
        place = ("--host", "127.0.0.1", "--port", "0", *own)
        threads = () if mode == "bootstrap" else ("--threads", "1")
        watched = mode != "api"
        process = SwarmProcess(mode, *words, *place, *threads, *more, env=environment, forked=True, watched=watched)
        self.processes.append(process)
        return process

    def run(self, line: str, stdin: str = "") -> str:
        """A command that ends by itself: its stdout."""
        done = CliRunner().invoke(main, self.words(line), input=stdin)
        assert done.exit_code == 0, (line, done.output)
        return done.stdout

    def ask(self, line: str) -> httpx.Response:
        """As curl would."""
        self.left.remove(line)
        words = iter(shlex.split(line, comments=True)[1:])
        url, headers, body = "", {}, None
        for word in words:
            if word == "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            elif word == "-d":
                body = next(words)
            else:
                url = word.replace(GATEWAY, self.gateway)
        answer = httpx.request("GET" if body is None else "POST", url, headers=headers, content=body, timeout=60)
        told = re.search(r"# (\d{3}):", line)
        assert answer.status_code == int(told[1] if told else 200), (line, answer.text)
        return answer


def picked(*parts: str) -> Callable[[list[str]], str]:
    return lambda lines: next(line for line in lines if all(part in line for part in parts))


def test_a_newcomer_who_follows_it_gets_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newcomer = Newcomer(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("SWARM_BOOTSTRAP", "")
    monkeypatch.setenv("SWARM_KEY", "")
    lines = newcomer.left

    def line(*parts: str) -> str:
        return picked(*parts)(lines)

    try:
        newcomer.run(line("key new"))
        monkeypatch.setenv("SWARM_KEY", str(tmp_path / KEY_FILE))
        newcomer.first = newcomer.start(line("bootstrap", "--swarm-key")).ready().address
        newcomer.words(line("swarm bootstrap"))  # the same without a swarm key: it parses
        (tmp_path / ALLOWED).write_text(newcomer.run(line("key id")).strip() + "  # a friend\n")
        first, second = newcomer.start(line("--layers 0-11")), newcomer.start(line("--layers 12-23"))
        friendly = newcomer.start(line("--layers 0-11", "--allow"))
        chosen = newcomer.start(line("--port 7710"))
        local, open_to_all = newcomer.start(line("api --local")), newcomer.start(line("api", "--api-key"))
        for process in (first, second, friendly, chosen):
            process.ready()
        assert "every layer is served" in newcomer.run(line("status"))
        assert newcomer.run(line("client", "What is a swarm?")).strip()
        chat = line("client --model demo --bootstrap 192.0.2.1:7700")  # stdin is no terminal here: it is the prompt
        assert newcomer.run(chat, "hello").strip()

        newcomer.gateway = local.ready().address
        assert newcomer.ask(line("curl", "/v1/models")).json()["data"][0]["id"] == "demo"
        assert newcomer.ask(line("/v1/chat/completions")).json()["choices"][0]["message"]["content"]
        assert "start with --api-key" in newcomer.ask(line("chat.example.org", "403")).text
        newcomer.gateway = open_to_all.ready().address
        newcomer.ask(line("chat.example.org", "401"))
        newcomer.ask(line("chat.example.org", "Bearer"))

        assert "kill -TERM PID" in commands("kill")
        assert first.end() == 0
        assert newcomer.run(line("client", "hello")).strip()
    finally:
        close_all(newcomer.processes)
    for rest in list(lines):
        mode, *words = newcomer.words(rest)
        main.commands[mode].make_context(mode, words)
    assert not lines
