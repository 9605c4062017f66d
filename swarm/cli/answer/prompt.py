"""What is asked: PROMPT, what comes by stdin, or both."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Callable
from typing import TextIO

from swarm.cli.answer.request import Request
from swarm.cli.models import model_directory, only_model
from swarm.errors import PromptTooLong, UsageFault

MAX_CHARACTERS = 1 << 24  # of stdin: four millions of tokens as English is cut, which no model's context holds
CHARACTERS_A_TOKEN = 128  # more than any text has in the mean: longer tokens are rare and of blanks
FIRST_SECONDS = 3.0  # for which a pipe's first byte is awaited where there is a PROMPT as well


def whole_prompt(request: Request, note: Callable[[str], None]) -> str:
    """PROMPT, an empty line, and what stdin holds; or one of them where the other holds nothing.

    Beside PROMPT only a file, a pipe and a socket are read: a terminal and a device (/dev/null) hold nothing that was meant.
    Whoever starts a program may hand it a pipe into which nobody ever writes, so the first byte of a pipe is awaited for
    FIRST_SECONDS, and then PROMPT is all there is, which `note` is told; an open pipe that has begun is read to its end.
    Raises UsageFault, ModelFault.
    """
    source = sys.stdin
    if request.prompt is None:
        text = _read(source, request) if source is not None else ""
        if not text:
            raise UsageFault("no prompt: stdin is empty, and no PROMPT was given")
        return text
    if source is None or not _comes(source, note):
        return request.prompt
    text = _read(source, request)
    return "\n\n".join(part for part in (request.prompt, text) if part.strip()) or request.prompt


def _comes(source: TextIO, note: Callable[[str], None]) -> bool:
    try:
        descriptor = source.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):  # it is closed, or no file
        return False
    if stat.S_ISREG(mode):
        return True
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return False
    awaited = select.poll()
    awaited.register(descriptor, select.POLLIN)
    if awaited.poll(FIRST_SECONDS * 1000):
        return True
    note(f"nothing came by stdin for {FIRST_SECONDS:g} s: PROMPT is answered alone (`< /dev/null` saves the wait)")
    return False


def _read(source: TextIO, request: Request) -> str:
    name, context = _context(request)
    most = MAX_CHARACTERS if context is None else min(MAX_CHARACTERS, context * CHARACTERS_A_TOKEN)
    try:
        text = source.read(most + 1)
    except UnicodeDecodeError as error:
        raise UsageFault(f"stdin is no text: {error}") from error
    if len(text) <= most:
        return text
    said = f"stdin holds more than {most} characters, and is read no further"
    if context is None:
        raise PromptTooLong(f"{said}: no model's context takes so much")
    raise PromptTooLong(f"{said}: the context of {name} is {context} tokens, answer included")


def _context(request: Request) -> tuple[str, int | None]:
    """The model's name, and its context in tokens where it is known before a swarm is joined. Raises UsageFault, ModelFault."""
    if request.model is None and not request.local:
        return "", None
    from swarm.engine.backends import open_model

    name = request.model or only_model(request.models_dir)
    return name, open_model(model_directory(name, request.models_dir), request.backend).spec.max_positions
