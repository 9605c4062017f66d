"""What begins with a slash. Each command returns what is to be told."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from swarm.cli.chat.connection import Link
from swarm.cli.chat.conversation import Conversation, load, save
from swarm.cli.chat.figures import chain_lines, stats
from swarm.cli.chat.settings import DEFAULT, SETTINGS, Settings
from swarm.cli.options import parse_chain
from swarm.config import parse_address
from swarm.errors import UsageFault

if TYPE_CHECKING:
    from swarm.client import Answer

KEYS = """\
Enter sends, Alt-Enter begins another line, Tab completes, Ctrl-R searches.
Space or Ctrl-C stops an answer, Ctrl-D leaves; // begins a message with one /."""


class Chat(Protocol):
    """What commands need of the chat."""

    link: Link
    conversation: Conversation
    settings: Settings
    last: Answer | None  # the last answer, whole or not
    question: str | None  # the last one, answered or not

    def peers(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    run: Callable[[Chat, str], str]
    arguments: str
    meaning: str


class Leave(Exception):
    """The chat is over."""


class Ask(Exception):
    """A command that ends in a question to the model."""

    def __init__(self, question: str, again: bool) -> None:
        super().__init__(question)
        self.question = question
        self.again = again  # with another seed


def split(line: str) -> tuple[str, str] | None:
    """A command's name and the rest; None for a message. `/usr/bin` and `/* x` are messages."""
    match = re.fullmatch(r"(/[A-Za-z]+)(?:\s+(.*))?", line.strip(), re.DOTALL)
    return None if match is None else (match[1].lower(), (match[2] or "").strip())


def message_of(line: str) -> str:
    """What is sent: one slash of two at the beginning is taken away."""
    return line[1:] if line.startswith("//") else line


def obey(chat: Chat, name: str, rest: str) -> str:
    """Raises SwarmError, Leave, Ask."""
    if name in COMMANDS:
        return COMMANDS[name].run(chat, rest)
    near = difflib.get_close_matches(name, COMMANDS, 1)
    raise UsageFault(f"no such command: {name}" + (f"; {near[0]} is one" if near else "; /help lists them"))


def words() -> dict[str, Sequence[str]]:
    """What may follow each command, to complete it."""
    return dict.fromkeys(COMMANDS, ()) | {"/set": tuple(SETTINGS), "/chain": ("auto", "shortest"), "/system": ("none",)}


def _help(chat: Chat, rest: str) -> str:
    width = max(len(f"{name} {command.arguments}") for name, command in COMMANDS.items())
    lines = [f"{f'{name} {command.arguments}':<{width}}  {command.meaning}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, KEYS])


def _leave(chat: Chat, rest: str) -> str:
    raise Leave


def _clear(chat: Chat, rest: str) -> str:
    chat.conversation.clear()
    return "forgotten"


def _peers(chat: Chat, rest: str) -> str:
    return chat.peers()


def _chain(chat: Chat, rest: str) -> str:
    if rest:
        chain = parse_chain(rest)
        click.echo("joining the swarm once more …", err=True)
        client = chat.link.use(chain)
        return f"{client.model}: " + (f"by hand, {rest}" if chat.link.request.named else "the best chain is looked for")
    by_hand = chat.link.request.named
    return chain_lines(chat.last) + (f"\nby hand: {','.join(by_hand)}; /chain auto looks for one" if by_hand else "")


def _connect(chat: Chat, rest: str) -> str:
    if not rest:
        raise UsageFault("/connect HOST:PORT: write the address of a peer of the swarm to join")
    place = parse_address(rest)
    click.echo(f"joining {rest} …", err=True)
    client = chat.link.join(*place)
    return f"{client.model}, {client.model.layer_count} layers"


def _system(chat: Chat, rest: str) -> str:
    if rest:
        chat.conversation.system = None if rest.lower() == "none" else rest
        return "no system message" if chat.conversation.system is None else "the system message is set"
    return chat.conversation.system or "no system message; /system TEXT sets one, /system none takes it away"


def _set(chat: Chat, rest: str) -> str:
    name, _, value = rest.partition(" ")
    if not name:
        return f"{chat.settings.describe()}\n/set NAME VALUE; the value {DEFAULT} takes it back"
    if not value.strip():
        raise UsageFault(f"/set {name} VALUE: a value is missing; /set shows what there is")
    chat.settings = chat.settings.set(name, value.strip())
    return f"{name} {value.strip()}"


def _file(rest: str, what: str) -> Path:
    if not rest:
        raise UsageFault(f"/{what} FILE: write the file's name")
    try:
        return Path(rest).expanduser()
    except RuntimeError as error:
        raise UsageFault(f"{rest}: {error}") from error


def _save(chat: Chat, rest: str) -> str:
    path = _file(rest, "save")
    save(path, chat.conversation, chat.settings.as_data(), chat.link.client.model.name)
    return f"{len(chat.conversation.messages)} messages are in {path}"


def _load(chat: Chat, rest: str) -> str:
    path = _file(rest, "load")
    saved = load(path)
    try:
        settings = Settings.from_data(saved.settings)
    except UsageFault as error:
        raise UsageFault(f"{path}, the field settings: {error}") from error
    chat.conversation, chat.settings = saved.conversation, settings
    other = "" if saved.model == chat.link.client.model.name else f"; they were said with {saved.model}"
    return f"{len(saved.conversation.messages)} messages from {path}{other}"


def _retry(chat: Chat, rest: str) -> str:
    question = chat.question
    if question is None:
        raise UsageFault("nothing was asked yet")
    raise Ask(question, again=True)


def _stats(chat: Chat, rest: str) -> str:
    if chat.last is None:
        return "no answer yet"
    return stats(chat.last)


COMMANDS = {
    "/help": Command(_help, "", "this"),
    "/exit": Command(_leave, "", "leave"),
    "/clear": Command(_clear, "", "forget the conversation"),
    "/retry": Command(_retry, "", "answer the last question again"),
    "/system": Command(_system, "[TEXT|none]", "show or set the system message"),
    "/set": Command(_set, "[NAME VALUE]", "show or set how answers are drawn: /set temperature 0.7"),
    "/stats": Command(_stats, "", "the last answer in figures"),
    "/chain": Command(_chain, "[auto|shortest|PEER,…]", "show the last answer's chain, or name the workers to use"),
    "/peers": Command(_peers, "", "the workers of the swarm"),
    "/connect": Command(_connect, "HOST:PORT", "join another swarm"),
    "/save": Command(_save, "FILE", "keep messages and settings in a file"),
    "/load": Command(_load, "FILE", "go on from such a file"),
}
