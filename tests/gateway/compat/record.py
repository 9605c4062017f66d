"""Records anew what programs ask the gateway: `make record-agents`, or `record-agents PROGRAMS="codex qwen-code"`.

Needs npm, pip and their registries. Installs the programs in a scratch folder (SWARM_RECORDING names one that is kept), starts
a bootstrap, two workers and a gateway that serve the probe model, runs each program through a recording proxy, and writes
`recordings/PROGRAM.json`. A program that does not come to its end, or to the probe's last words, is told of; what it asked
until then is written all the same, for the replay to fail. With --strict the probe's template is a strict one and nothing is
written.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import getpass
import json
import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.compat.answer import read_answer
from gateway.compat.catalog import MODEL, NOTE, NOTE_TEXT, PICTURE, PROGRAMS, SCRIPTS, Program, calls
from gateway.compat.proxy import Exchange, RecordingProxy
from gateway.compat.redaction import FOLDER, PIXEL, Redaction, body_of, without_repeats
from support.probe import make_probe
from support.processes import SwarmProcess, close_all

from swarm.gateway.http.server import HttpServer

RECORDINGS = Path(__file__).parent / "recordings"
INSTALL_SECONDS = 600.0
PROGRAM_SECONDS = 180.0


@contextlib.contextmanager
def probe_swarm(folder: Path, work: Path, strict: bool) -> Iterator[str]:
    """A gateway over two workers, each with one layer of the probe; its address."""
    model = make_probe(folder / MODEL, calls(str(work)), strict=strict)
    processes: list[SwarmProcess] = []
    try:
        processes.append(SwarmProcess.server("bootstrap", folder).ready())
        joined = ("--bootstrap", processes[0].address)
        shared = ("--model", str(model), "--precision", "fp32", "--max-memory", "2G", *joined)
        processes += [SwarmProcess.server("worker", folder, *shared, "--layers", layer) for layer in ("0", "1")]
        for worker in processes[1:]:
            worker.ready()
        key = str(folder / "api.key")
        gateway = SwarmProcess("api", "--port", "0", "--key", key, "--model", str(model), *joined, watched=False)
        processes.append(gateway)
        yield gateway.ready().address
    finally:
        close_all(processes)


async def command(*arguments: str, cwd: Path, env: dict[str, str], seconds: float) -> tuple[int, str]:
    """Run it with nothing on stdin; exit code, and what it said. Killed after so many seconds: then -9."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        return -9, f"not done after {seconds:g} s"
    return process.returncode or 0, said.decode(errors="replace")


async def install(program: Program, place: Path) -> str:
    """Its packages in a folder of their own; the version of the first. Raises RuntimeError where that fails."""
    package = program.packages[0].split("[")[0]
    env = dict(os.environ)
    if program.source == "npm":
        found = place / "node_modules" / package / "package.json"
        steps = [("npm", "install", "--prefix", str(place), "--no-audit", "--no-fund", *program.packages)]
    else:
        python = str(place / "bin" / "python")
        found = Path(python)
        steps = [(sys.executable, "-m", "venv", str(place)), (python, "-m", "pip", "install", "-q", *program.packages)]
    place.mkdir(parents=True, exist_ok=True)
    for step in steps if not found.exists() else ():
        code, said = await command(*step, cwd=place, env=env, seconds=INSTALL_SECONDS)
        if code:
            raise RuntimeError(f"{' '.join(step)}: {said[-2000:]}")
    if program.source == "npm":
        return str(json.loads(found.read_text())["version"])
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    _, said = await command(str(found), "-c", ask, cwd=place, env=env, seconds=INSTALL_SECONDS)
    return said.strip()


async def run(program: Program, place: Path, home: Path, work: Path, base: str) -> tuple[int, str]:
    """The program in a home of its own and without this process's settings; exit code, 1 also where the turn is not whole."""

    def filled(text: str) -> str:
        return text.replace("BASE", base).replace("MODEL", MODEL).replace("HOME", str(home))

    for name, text in program.files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(filled(text))
    if program.source == "npm":  # a script's imports are looked for beside it
        (home / "node_modules").symlink_to(place / "node_modules")
    folders = [place / "node_modules" / ".bin", place / "bin"]
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
    env = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8"}
    env |= {name: filled(value) for name, value in program.env.items()}
    said = ""
    for name, *arguments in filter(None, (program.command, program.then)):
        found = next((folder / name for folder in folders if (folder / name).exists()), name)
        code, more = await command(str(found), *map(filled, arguments), cwd=work, env=env, seconds=PROGRAM_SECONDS)
        said += more
        if code or program.ends not in more:
            return code or 1, said
    return 0, said


def kept(exchange: Exchange, redaction: Redaction) -> dict[str, Any]:
    """The request, and what a gateway with the probe has to say to it."""
    request = redaction.request(exchange)
    if exchange.method != "POST" or exchange.status != 200 or "count_tokens" in exchange.path:
        return request
    text, names = read_answer(exchange.answer.decode())
    return request | {"calls": names, "says": text}


async def record(names: list[str], scratch: Path, strict: bool) -> int:
    """Returns how many programs failed. Under a strict template nothing is written."""
    work = scratch / "work"
    work.mkdir(exist_ok=True)
    (work / NOTE).write_text(NOTE_TEXT)
    (work / PICTURE).write_bytes(base64.b64decode(PIXEL))
    failed = 0
    with tempfile.TemporaryDirectory() as folder, probe_swarm(Path(folder), work, strict) as target:
        proxy = RecordingProxy(target)
        async with HttpServer(proxy.app, "127.0.0.1", 0) as server:
            for program in PROGRAMS:
                if names and program.name not in names:
                    continue
                base = f"http://127.0.0.1:{server.port}"
                failed += not await record_one(program, proxy, base, scratch, work, not strict)
        await proxy.close()
    return failed


async def record_one(
    program: Program, proxy: RecordingProxy, base: str, scratch: Path, work: Path, written: bool
) -> bool:
    place = (
        scratch / ("python" if program.source == "pip" else "npm") / program.packages[0].split("[")[0].replace("/", "-")
    )
    version = await install(program, place)
    proxy.exchanges.clear()
    home = Path(tempfile.mkdtemp(dir=scratch))
    code, said = await run(program, place, home, work, base)
    read = any(NOTE_TEXT.strip() in body_of(exchange) for exchange in proxy.exchanges)
    whole = code == 0 and (read or not program.reads)
    print(f"{program.name} {version}: {'a whole turn' if whole else f'exit code {code}, note read: {read}'}")
    for exchange in proxy.exchanges:
        print(f"  {exchange.status} {exchange.method} {exchange.path} {len(exchange.body)} bytes")
        if exchange.status >= 400:
            print(f"      {exchange.answer.decode(errors='replace')[:600]}")
    if not whole:
        print("  " + said[-3000:].replace("\n", "\n  "))
    if not proxy.exchanges or not written:
        return whole
    secrets = {str(work): FOLDER, str(home): "/home/user", str(scratch): "/home/user", base: "http://127.0.0.1:8080"}
    secrets |= {socket.gethostname(): "host", getpass.getuser(): "user"}
    redaction = Redaction(secrets)
    told = {
        "program": program.packages[0],
        "version": version,
        "command": shlex.join(program.command).replace(str(SCRIPTS), "programs"),
        **({"then": shlex.join(program.then)} if program.then else {}),
        "requests": without_repeats([kept(exchange, redaction) for exchange in proxy.exchanges]),
    }
    RECORDINGS.mkdir(exist_ok=True)
    (RECORDINGS / f"{program.name}.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return whole


def main() -> None:
    kept_folder = os.environ.get("SWARM_RECORDING")
    with contextlib.ExitStack() as stack:
        scratch = Path(kept_folder or stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        names = [argument for argument in sys.argv[1:] if argument != "--strict"]
        sys.exit(min(1, asyncio.run(record(names, scratch, "--strict" in sys.argv))))


if __name__ == "__main__":
    main()
