"""What a node takes of a machine while nobody asks, and how it fares with few files: real processes."""

from __future__ import annotations

import json
import resource
import socket
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from support.processes import SwarmProcess, close_all

IDLE_SECONDS = 60.0
IDLE_SHARE = 0.005  # of a core
FEW_FILES = 64
STRANGERS = 200
START_CPU_SECONDS = 3.0  # of a worker of demo, to the moment it serves: what two idle cores do within three seconds

pytestmark = pytest.mark.soak


def seconds(process: SwarmProcess) -> float:
    """Of a core, so far."""
    times = psutil.Process(process.process.pid).cpu_times()
    return times.user + times.system


@pytest.fixture
def nodes(tmp_path: Path):
    """A bootstrap, a worker of demo and a gateway, as anybody starts them."""
    made: list[SwarmProcess] = []
    try:
        made.append(SwarmProcess.server("bootstrap", tmp_path, forked=False))
        join = ("--bootstrap", made[0].ready().address)
        made.append(SwarmProcess.server("worker", tmp_path, "--model", "demo", *join, forked=False))
        made[1].ready()
        key = str(tmp_path / "gateway.key")
        made.append(SwarmProcess("api", "--port", "0", "--key", key, *join, watched=False))
        made[2].address = made[2].read_until(b"\n").decode().split()[1]
        yield made
    finally:
        close_all(made)


def test_idle_nodes_take_less_than_a_two_hundredth_of_a_core(nodes: list[SwarmProcess]) -> None:
    assert seconds(nodes[1]) < START_CPU_SECONDS
    before = [seconds(node) for node in nodes]
    time.sleep(IDLE_SECONDS)  # what is measured is the time
    for node, begun in zip(nodes, before, strict=True):
        assert seconds(node) - begun <= IDLE_SHARE * IDLE_SECONDS, node.arguments[0]


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_with_few_files_nodes_serve_beside_idle_connections(nodes: list[SwarmProcess]) -> None:
    """The third is started anew with its limit, which it reads when it begins to listen."""
    bootstrap, _, gateway = nodes
    join = ("--bootstrap", bootstrap.address)
    key = str(Path(gateway.arguments[gateway.arguments.index("--key") + 1]).with_name("few.key"))
    few = SwarmProcess("api", "--port", "0", "--key", key, *join, watched=False)
    nodes.append(few)  # closed with them
    resource.prlimit(few.process.pid, resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))
    url = few.read_until(b"\n").decode().split()[1]
    place = ("127.0.0.1", int(url.rpartition(":")[2]))
    begun = seconds(few)
    silent = [socket.create_connection(place, timeout=5.0) for _ in range(STRANGERS)]
    try:
        asked = json.dumps({"model": "demo", "prompt": "def f(", "max_tokens": 4}).encode()
        request = urllib.request.Request(f"{url}/v1/completions", asked, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            assert answer.status == 200
        assert seconds(few) - begun < 1.0
        assert few.errors().count("the idlest are closed") == 1
        assert "Traceback" not in few.errors()
    finally:
        for each in silent:
            each.close()
