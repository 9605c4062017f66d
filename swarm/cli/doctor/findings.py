"""What measurements of this machine mean for a node, in one line each. Pure."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from swarm.discovery.clock import SLACK_SECONDS
from swarm.wire.messages import DialledBack

GIB = 1 << 30
LEAST_MEMORY = GIB  # bytes free, below which hardly a layer of a usual model fits
LEAST_DISK = GIB  # bytes free, below which no model can be put there


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool | None  # None: neither good nor bad
    text: str  # for a person; of what is bad, what to do


def joined(bootstrap: Sequence[tuple[str, int]], contacts: int, error: str) -> Finding:
    """Whether a swarm answered."""
    where = ", ".join(f"{host} port {port}" for host, port in bootstrap)
    if error:
        return Finding("swarm", False, error)
    return Finding("swarm", True, f"{where} answers by UDP; {contacts} node{'s' if contacts != 1 else ''} known")


def clock(offset: float) -> Finding:
    """`offset`: seconds that swarm time is ahead of this machine's clock."""
    if abs(offset) <= SLACK_SECONDS:
        return Finding("clock", True, f"agrees with the swarm's to within {SLACK_SECONDS:g} s")
    way = "behind" if offset > 0 else "ahead of"
    return Finding(
        "clock",
        False,
        f"{abs(offset):.0f} s {way} the swarm's: this node goes by the swarm's time, but bans and logs do not; "
        "have the system set it (NTP)",
    )


def key(path: str, mode: int | None, own: bool, used: bool, peer: str, error: str = "") -> Finding:
    """`mode`: of the file, None if there is none; `own`: whether it is this user's; `used`: by a process that runs."""
    if error:
        return Finding("key", False, error)
    if mode is None:
        return Finding("key", True, f"{path} does not exist yet: the first worker makes it")
    others = mode & (stat.S_IRWXG | stat.S_IRWXO)
    if others:
        return Finding("key", False, f"{path} may be used by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}")
    if not own:
        return Finding("key", False, f"{path} belongs to another user: run as that one, or name another with --key")
    use = ", in use by a process here" if used else ""
    return Finding("key", True, f"{path} is peer {peer}, readable by its owner alone{use}")


def ports(taken: Mapping[tuple[str, int], str], mine: Collection[int] | None) -> list[Finding]:
    """`taken`: by kind and number what became of listening there, empty if it worked; `mine`: the ports of a node of this key
    that runs here, None if there may be one and nobody knows its ports."""
    found = []
    for (kind, port), error in taken.items():
        if not error:
            found.append(Finding("port", True, f"{kind} {port} is free"))
        elif mine is None:
            found.append(Finding("port", None, f"{kind} {port} is in use, perhaps by the node of this key"))
        elif port in mine:
            found.append(Finding("port", True, f"{kind} {port} is in use by the node of this key"))
        else:
            found.append(Finding("port", False, f"{kind} {port}: {error}; choose another with --port"))
    return found


def outside(answers: Mapping[str, DialledBack | str], own: Sequence[str], data: int, probe: int) -> list[Finding]:
    """What others who dialled back say, by their names: how it went, or why they did not. `own`: addresses of this machine."""
    if not answers:
        return [Finding("outside", None, "nobody was asked to dial back")]
    return [finding for who, said in answers.items() for finding in _dialled(who, said, own, data, probe)]


def _dialled(who: str, said: DialledBack | str, own: Sequence[str], data: int, probe: int) -> list[Finding]:
    if isinstance(said, str):
        return [Finding("outside", None, f"{who} did not dial back: {said}")]
    seen = f"{who} sees this machine at {said.host}"
    if ipaddress.ip_address(said.host).is_loopback:
        seen += " (so it runs here: ask one elsewhere)"
    elif said.host in own:
        seen += ", its own address"
    else:
        seen += ", a router's"
    reached = f"{seen}, and {'does not reach' if said.fault else 'reaches'} TCP {data}"
    more = f": {said.fault}. {_remedy(said, own, data)}" if said.fault else ""
    found = [Finding("outside", not said.fault, reached + more)]
    if probe:
        text = f"{who} {'reaches' if said.probed else 'does not reach'} UDP {probe} (round trips)"
        remedy = _remedy(said, own, probe, "UDP")
        more = "" if said.probed else f": others cannot measure how near this node is. {remedy}"
        found.append(Finding("outside", said.probed, text + more))
    return found


def _remedy(said: DialledBack, own: Sequence[str], port: int, kind: str = "TCP and UDP") -> str:
    if said.host in own:
        return f"Let the firewall pass {kind} {port}"
    return f"Have the router pass {kind} {port} on to this machine, and say --public-host {said.host}"


def memory(free: int, total: int) -> Finding:
    """Bytes that a worker on the CPU could have."""
    text = f"{free / GIB:.1f} GiB of {total / GIB:.1f} GiB are free"
    if free >= LEAST_MEMORY:
        return Finding("memory", True, text)
    return Finding("memory", False, f"{text}: hardly a layer fits; end other programs, or raise the container's limit")


def disk(folder: str, free: int, writable: bool) -> Finding:
    """Where keys, bans and models are kept."""
    if not writable:
        return Finding("disk", False, f"{folder} cannot be written to: keys, bans and known peers would be lost")
    text = f"{free / GIB:.1f} GiB are free in {folder}"
    return Finding("disk", free >= LEAST_DISK, text if free >= LEAST_DISK else f"{text}: too little for a model")
