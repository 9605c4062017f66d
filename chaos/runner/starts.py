"""Workers that are started on a disk that is full, read only or failing: each serves exactly, or refuses and says why.

Disks are made with mounts of the process' own where the system allows that (`unshare`), else with a limit of file sizes.
Knows nothing of farms or faults.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chaos.farm import SIGNS_OF_A_BUG, START_SECONDS
from chaos.runner.load import Questions
from chaos.scenarios.model import Start
from swarm import Client
from swarm.checkpoint.manifest import read_manifest
from swarm.checkpoint.stored_tensors import StoredTensors
from swarm.errors import SwarmError
from swarm.identity import Identity

HOST = "127.0.0.1"
DISK_BYTES = 1 << 20  # of a full disk, whose files are small
ASK_SECONDS = 60.0
END_SECONDS = 15.0
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"'
FULL = (
    f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$0/disk" && (cp "$0"/kept/* "$0/disk" || true) 2>/dev/null;'
    '(head -c 9999999 /dev/zero > "$0/disk/full" || true) 2>/dev/null; mount --bind "$0/model" "$0/model" &&'
    'mount -o remount,ro,bind "$0/model"'
)


@dataclass(frozen=True, slots=True)
class StartResult:
    """What came of one start."""

    start: Start
    how: str  # the disk was made: by mounts or by a limit
    code: int | None  # of its exit; None: it served
    right: bool  # it served, and gave the tokens of the unsplit model
    said: str  # on stderr, less its progress
    named: tuple[str, ...]  # what it was to say
    seconds: float

    @property
    def wrong(self) -> str | None:
        """What is not as it should be; None: nothing."""
        for sign in SIGNS_OF_A_BUG:
            if sign in self.said:
                return f"{sign}: {self.said[-600:]}"
        if self.start.serves:
            return None if self.right else f"it was to serve, but: exit code {self.code}: {self.said[-600:]}"
        if self.code is None:
            return "it serves"
        missing = [word for word in self.named if word not in self.said]
        return f"it does not say {', '.join(missing)}: {self.said[-600:]}" if missing else None


@cache
def mounting() -> tuple[str, ...]:
    """The command that lets a process mount for itself alone; () where there is none."""
    for flags in ("-m", "-rm"):
        words = ("unshare", flags, "sh", "-c")
        with suppress(OSError, subprocess.TimeoutExpired):
            tried = subprocess.run([*words, "mount -t tmpfs tmpfs /mnt"], capture_output=True, timeout=10, check=False)
            if tried.returncode == 0:
                return words
    return ()


async def try_start(start: Start, model: Path, precision: str, questions: Questions, folder: Path) -> StartResult:
    """Start it, ask it if it serves, end it."""
    began = time.monotonic()
    named = await asyncio.to_thread(_prepare, start, model, folder)
    wrapper, program = _disk(start, folder)
    place = folder / "disk"
    words = ("worker", "--model", str(folder / "model"), "--precision", precision, "--device", "cpu", "--threads", "1")
    process = await asyncio.create_subprocess_exec(
        *(*wrapper, sys.executable, "-m", *program, *words, "--host", HOST, "--port", "0"),
        *("--key", str(place / "worker.key"), "--exit-with-stdin"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ
        | {"SWARM_BOOTSTRAP": "", "OMP_NUM_THREADS": "1", "TMPDIR": str(place)}
        | {name: str(place) for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")},
        process_group=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    saying = asyncio.create_task(process.stderr.read())
    right, code = False, None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = (await process.stdout.readline()).decode()
        if line.startswith("ready "):
            right = await _answers(folder / "model", precision, questions, int(line.split()[1].rpartition(":")[2]))
        else:
            code = await asyncio.wait_for(process.wait(), END_SECONDS)
    except TimeoutError:
        code = -1
    finally:
        process.stdin.close()  # then it leaves
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    said = "\n".join(line for line in (await saying).decode(errors="replace").splitlines() if "%" not in line)
    how = "mounts" if wrapper else "a limit" if program[0] == "chaos.process" else "nothing"
    return StartResult(start, how, code, right, said, named, time.monotonic() - began)


def _prepare(start: Start, model: Path, folder: Path) -> tuple[str, ...]:
    """The files of a start; returns what it has to name when it refuses."""
    shutil.copytree(model, folder / "model", symlinks=False)
    disk, kept = folder / "disk", folder / "kept"
    for each in (disk, kept):
        each.mkdir()
    if start.key:
        Identity.load_or_create(disk / "worker.key")
        (disk / "worker.key.lock").touch()
        shutil.copy2(disk / "worker.key", kept)
    if not start.flipped:
        return (str(disk / "worker.key"),)
    read_manifest(folder / "model")
    checkpoint = StoredTensors.open(folder / "model")
    name = max((each for each in checkpoint.file_of if ".layers." in each), key=lambda each: (len(each), each))
    entry, path = checkpoint.file(name).entries[name], checkpoint.path(name)
    before = path.stat()
    with path.open("r+b") as file:
        file.seek((entry.begin + entry.end) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # a failing disk tells nobody
    return name, path.name


def _disk(start: Start, folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stands before the interpreter, and the program that it runs."""
    if start.disk == "sound":
        return (), ("swarm",)
    script = READ_ONLY if start.disk == "read-only" else FULL
    if mounting():
        return (*mounting(), f'{script} && exec "$@"', str(folder)), ("swarm",)
    return (), ("chaos.process", "--full-disk")


async def _answers(model: Path, precision: str, questions: Questions, port: int) -> bool:
    """Whether what serves there gives the unsplit model's tokens."""
    prompt, options = questions.ask(0)
    try:
        async with (
            asyncio.timeout(ASK_SECONDS),
            Client(model, bootstrap=[(HOST, port)], precision=precision) as client,
        ):
            answer = client.generate(prompt, options=options)
            await answer.read()
            return tuple(answer.token_ids) == questions.answers[0]
    except (SwarmError, TimeoutError):
        return False
