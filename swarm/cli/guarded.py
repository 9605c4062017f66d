"""What holds for every command: errors are told in a line, and closed or full streams trip nobody."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

import click

from swarm.cli.chat.blocks import visible
from swarm.errors import SwarmError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # a file cannot be written on


class Guarded(click.Group):
    """Errors raised on purpose are told in a line, without a traceback; the error's class says the exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        _open_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows another
        try:
            return super().invoke(ctx)
        except SwarmError as error:
            told = str(error)  # what another peer said may be part of it
            click.echo(f"swarm: {visible(told) if sys.stderr.isatty() else told}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(130)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # click itself deals with a reader that has left
            if error.errno not in FULL or error.filename is not None:
                raise
            _give_up_stdout()
            click.echo(f"swarm: stdout takes no more: {error.strerror}", err=True)
            sys.exit(os.EX_IOERR)


def _open_closed_streams() -> None:
    """A process may be started without stdout or stderr: what is written there goes nowhere, and nobody trips over it.

    Opened in their order, so that no file that is opened later takes their descriptors.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _give_up_stdout() -> None:
    """What is still buffered would fail once more at the exit."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
