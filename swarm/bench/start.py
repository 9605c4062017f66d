"""How long `swarm worker` takes until it serves, and what it then holds."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from swarm.bench.figures import Resident, Start
from swarm.checkpoint.manifest import MANIFEST_FILE
from swarm.errors import LocalFault
from swarm.span import LayerSpan

START_SECONDS = 900.0  # at most, hashing included
OWN_VARIABLES = ("XDG_DATA_HOME", "XDG_CACHE_HOME")  # where keys and manifests would be kept


@dataclass(frozen=True, slots=True)
class Started:
    """One start."""

    seconds: float
    resident: int


async def measure_start(
    model: Path, span: LayerSpan, *, precision: str, numerics: str, threads: int, weight_bytes: int
) -> Start:
    """Twice, as somebody who has no manifest of the model yet. Raises LocalFault where the worker does not come up."""
    with tempfile.TemporaryDirectory() as folder:
        options = (
            *(
                "--model",
                str(linked(model, Path(folder))),
                "--layers",
                f"{span.start}-{span.stop - 1}",
                "--precision",
                precision,
            ),
            *("--numerics", numerics, "--threads", str(threads), "--host", "127.0.0.1", "--port", "0"),
        )
        first, again = await _start(options, folder), await _start(options, folder)
    return Start(again.seconds, first.seconds, _file_bytes(model), Resident(again.resident, weight_bytes, 0))


def linked(model: Path, folder: Path) -> Path:
    """The model without its manifest: links to its files in an empty folder."""
    if model.is_file():
        files, place = [model], folder / model.name
    else:
        files, place = [file for file in model.iterdir() if file.name != MANIFEST_FILE], folder / "model"
        place.mkdir()
    for file in files:
        (place if model.is_file() else place / file.name).symlink_to(file.resolve())
    return place


def _file_bytes(model: Path) -> int:
    files = [model] if model.is_file() else model.glob("*.safetensors")
    return sum(file.stat().st_size for file in files)


async def _start(options: tuple[str, ...], folder: str) -> Started:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "swarm", "worker", *options, "--exit-with-stdin"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | dict.fromkeys(OWN_VARIABLES, folder),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
        if not line.startswith(b"ready "):
            raise LocalFault(f"swarm worker {' '.join(options)}: did not start")
        return Started(time.perf_counter() - began, int(psutil.Process(process.pid).memory_info().rss))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
