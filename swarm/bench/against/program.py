"""`--against NAME:PATH`, and running such a program."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import LocalFault, UsageFault

NATIVE = "native"
PROGRAMS = ("llama-bench", "llama-perplexity")
PATIENCE_SECONDS = 3600.0  # for one run
MAX_SHOWN = 400  # characters of what a program said before it failed


@dataclass(frozen=True, slots=True)
class Program:
    """Another program."""

    name: str  # one of PROGRAMS
    path: Path


def parse_against(given: Sequence[str]) -> tuple[Program | None, bool]:
    """What --against said, once or twice: a program, and whether `native` was among it. Raises UsageFault."""
    programs = [parse_program(text) for text in given if text != NATIVE]
    if len(programs) > 1:
        raise UsageFault(f"--against: one program at a time, not {' and '.join(each.name for each in programs)}")
    return (programs[0] if programs else None), NATIVE in given


def parse_program(text: str) -> Program:
    """`llama-bench:PATH`. Raises UsageFault naming what is known, or the path."""
    name, _, place = text.partition(":")
    if name not in PROGRAMS or not place:
        raise UsageFault(f"--against {text}: write native, or NAME:PATH, where NAME is one of {', '.join(PROGRAMS)}")
    path = shutil.which(os.path.expanduser(place))
    if path is None:
        raise UsageFault(f"--against {text}: there is no program at {place}")
    return Program(name, Path(path).absolute())


async def output_of(program: Program, arguments: Sequence[str]) -> tuple[str, str]:
    """What it printed, on stdout and stderr. Raises LocalFault with its last words where it fails or takes too long."""
    process = await asyncio.create_subprocess_exec(
        program.path,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        raise LocalFault(f"{program.path}: did not end within {PATIENCE_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said, complained = out.decode(errors="replace"), err.decode(errors="replace")
    if process.returncode:
        last = (complained.strip() or said.strip())[-MAX_SHOWN:]
        raise LocalFault(f"{program.path}: ended with code {process.returncode}: {last}")
    return said, complained
