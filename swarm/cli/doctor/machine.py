"""Looks at this machine: its key, its ports, memory and disk. Decides nothing."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from swarm.cli.doctor import findings
from swarm.cli.doctor.findings import Finding
from swarm.cli.keys import data_directory, default_keys, in_use
from swarm.errors import UsageFault
from swarm.identity import Identity
from swarm.worker.capacity import measure_capacity


class OwnKey:
    """The key of the node that this machine runs, or would run: `identity` is a passing one while there is none."""

    def __init__(self, path: Path | None, environment: Mapping[str, str]) -> None:
        self.path = path or next(default_keys("worker", data_directory(environment)))
        self.error = ""
        self.used = False
        self.exists = self.path.exists()
        self.identity = Identity.generate()
        if self.exists:
            try:
                self.identity = Identity.load_or_create(self.path)
                self.used = in_use(self.path)
            except UsageFault as error:
                self.error = str(error)

    def finding(self) -> Finding:
        status = self.path.stat() if self.exists else None
        mode, owner = (status.st_mode, status.st_uid) if status else (None, os.getuid())
        own, peer = owner == os.getuid(), self.identity.peer_id.short
        return findings.key(str(self.path), mode, own, self.used, peer, self.error)


def taken_ports(host: str, data: int, probe: int) -> dict[tuple[str, int], str]:
    """By kind and number of the ports of a node, why nobody can listen there now; empty where one can."""
    wanted = (("TCP", data), ("UDP", data), ("UDP", probe))
    kinds = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
    return {(kind, port): _refusal(host, kinds[kind], port) for kind, port in wanted}


def _refusal(host: str, kind: socket.SocketKind, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, kind) as bound:
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if kind == socket.SOCK_STREAM:  # as listening does: what is left of earlier connections is in nobody's way
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
    except OSError as error:
        if family == socket.AF_INET6 and host == "::" and not socket.has_dualstack_ipv6():
            return _refusal("0.0.0.0", kind, port)
        return error.strerror or str(error)
    return ""


def room(environment: Mapping[str, str]) -> list[Finding]:
    """Memory, and the disk where this user's data lie."""
    capacity = measure_capacity("cpu")
    folder = data_directory(environment)
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return [
        findings.memory(capacity.memory_free, capacity.memory_total),
        findings.disk(str(folder), shutil.disk_usage(there).free, os.access(there, os.W_OK | os.X_OK)),
    ]
