"""What was said so far, and its file. Knows nothing of models or terminals."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarm.errors import UsageFault

FORMAT = 1
MAX_FILE_BYTES = 16 << 20
MAX_MESSAGES = 4096
ROLES = ("user", "assistant")


@dataclass(slots=True)
class Conversation:
    """Messages by turns: a question, its answer. The system message stands before them."""

    system: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)

    def asking(self, question: str) -> list[dict[str, str]]:
        """What the model is given to answer `question`."""
        before = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*before, *self.messages, {"role": "user", "content": question}]

    def answered(self, question: str, answer: str) -> None:
        """Remember both, if anything was answered; the oldest turns are forgotten where there are too many."""
        if answer:
            self.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            del self.messages[:-MAX_MESSAGES]

    def take_back(self) -> str | None:
        """Forget the last turn; its question."""
        if len(self.messages) < 2:
            return None
        question = self.messages[-2]["content"]
        del self.messages[-2:]
        return question

    def clear(self) -> None:
        """Forget what was said; the system message stays."""
        self.messages.clear()


@dataclass(frozen=True, slots=True)
class Saved:
    """What a file holds."""

    conversation: Conversation
    settings: Mapping[str, str]
    model: str


def save(path: Path, conversation: Conversation, settings: Mapping[str, str], model: str) -> None:
    """In a file that only its owner reads. Raises UsageFault; a file that holds something else is not written over."""
    if path.exists():
        try:
            load(path)
        except UsageFault as error:
            raise UsageFault(f"{path} is there and holds no saved chat: choose another name") from error
    data = {
        "swarm_chat": FORMAT,
        "model": model,
        "system": conversation.system,
        "settings": dict(settings),
        "messages": conversation.messages,
    }
    beside = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, indent=1)
        beside.replace(path)
    except OSError as error:
        raise UsageFault(f"{path} cannot be written: {error.strerror}") from error


def load(path: Path) -> Saved:
    """Raises UsageFault naming the file and the field."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageFault(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise UsageFault(f"{path} is longer than {MAX_FILE_BYTES} bytes: it is no saved chat")
    try:
        return _parse(json.loads(raw))
    except (ValueError, RecursionError) as error:
        raise UsageFault(f"{path} is no saved chat: {error}") from error


def _parse(data: Any) -> Saved:
    """Raises ValueError naming the field."""
    if not isinstance(data, dict) or data.get("swarm_chat") != FORMAT:
        raise ValueError(f"the field swarm_chat is not {FORMAT}")
    system, settings, messages, model = (data.get(name) for name in ("system", "settings", "messages", "model"))
    if not isinstance(model, str):
        raise ValueError("the field model is no text")
    if not (system is None or isinstance(system, str)):
        raise ValueError("the field system is no text")
    if not isinstance(settings, dict) or not all(isinstance(value, str) for value in settings.values()):
        raise ValueError("the field settings is no object of texts")
    if not isinstance(messages, list) or len(messages) > MAX_MESSAGES or len(messages) % 2:
        raise ValueError(f"the field messages is no list of questions and answers, {MAX_MESSAGES} at most")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") != ROLES[index % 2]:
            raise ValueError(f"the field messages[{index}].role is not {ROLES[index % 2]}")
        if not isinstance(message.get("content"), str):
            raise ValueError(f"the field messages[{index}].content is no text")
    kept = [{"role": message["role"], "content": message["content"]} for message in messages]
    return Saved(Conversation(system, kept), settings, model)
