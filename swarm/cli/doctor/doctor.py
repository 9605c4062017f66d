"""`swarm doctor`, and `swarm status --why PEER`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from swarm.cli.answer.output import make_trace
from swarm.cli.bootstrap import need_bootstrap
from swarm.cli.doctor import findings, machine
from swarm.cli.doctor import swarm as swarms
from swarm.cli.doctor.dial_back import dialled_back
from swarm.cli.doctor.findings import Finding
from swarm.cli.doctor.gateway import GatewayFault, avoided_by
from swarm.cli.keys import bans_file
from swarm.cli.status.survey import joined, named_peers
from swarm.client.audits.bans import Ban, Bans
from swarm.errors import SwarmError, UsageFault
from swarm.identity import Identity, PeerId
from swarm.node.addresses import own_addresses
from swarm.records import PeerRecord, still_here
from swarm.routing.unused import Uses
from swarm.transport.tls.network import TlsNetwork

MARKS = {True: "ok ", False: "BAD", None: " - "}


@dataclass(frozen=True, slots=True)
class DoctorRequest:
    """What the command line said."""

    bootstrap: tuple[tuple[str, int], ...]
    swarm_key: bytes | None
    model: str | None
    host: str
    port: int
    probe_port: int | None
    key: Path | None
    gateway: str | None
    gateway_key: str | None
    as_json: bool
    verbose: bool

    @property
    def probe(self) -> int:
        return self.port + 1 if self.probe_port is None else self.probe_port


def run_doctor(request: DoctorRequest) -> None:
    """Ends the process with 1 if something is bad. Raises UsageFault."""
    found, models = asyncio.run(_examined(request, _bans()))
    bad = any(finding.good is False for finding in found) or any(each.chain is None for each in models)
    if request.as_json:
        click.echo(json.dumps({"machine": [asdict(each) for each in found], "models": list(map(swarms.data, models))}))
    else:
        for finding in found:
            click.echo(f"{MARKS[finding.good]} {finding.what:<8} {finding.text}")
        for each in models:
            click.echo("\n" + "\n".join(swarms.told(each)))
    sys.exit(1 if bad else 0)


def run_why(
    bootstrap: Sequence[tuple[str, int]], swarm_key: bytes | None, peer: str, *, as_json: bool, verbose: bool
) -> None:
    """One worker's line. Raises SwarmError."""
    need_bootstrap(bootstrap)
    sight = asyncio.run(_seen(bootstrap, swarm_key, verbose))
    (wanted,) = named_peers([peer.strip().lower()], sight.records)
    for model in swarms.judged(sight, _bans()):
        for use in model.workers:
            if use.record.peer_id == wanted:
                only = replace(model, workers=(use,))
                click.echo(json.dumps(swarms.data(only)) if as_json else f"{model.model.name}: {swarms.line(use)}")
                return
    raise UsageFault(f"no worker of this swarm is peer {peer}: see `swarm status`")


def _bans() -> list[Ban]:
    bans = Bans(bans_file(os.environ), time.time)
    bans.load()
    return bans.entries()


async def _seen(bootstrap: Sequence[tuple[str, int]], swarm_key: bytes | None, verbose: bool) -> swarms.Sight:
    identity, trace = Identity.generate(), make_trace(verbose)  # who looks is nobody's business
    async with joined(identity, bootstrap, swarm_key, trace) as directory:
        records = [signed.record for signed in await directory.lookup_all()]
        return await swarms.look_at(identity, records, directory.time(), swarm_key, trace)


async def _examined(request: DoctorRequest, bans: list[Ban]) -> tuple[list[Finding], list[Uses]]:
    own = machine.OwnKey(request.key, os.environ)
    found = [own.finding(), *machine.room(os.environ)]
    taken = machine.taken_ports(request.host, request.port, request.probe)
    unknown = findings.ports(taken, None if own.used else ())
    if not request.bootstrap:
        said = "nobody was asked, as no swarm was named: give --bootstrap HOST:PORT, or set SWARM_BOOTSTRAP"
        return [*found, *unknown, Finding("swarm", None, said)], []
    trace = make_trace(request.verbose)
    try:
        async with joined(own.identity, request.bootstrap, request.swarm_key, trace) as directory:
            records = [signed.record for signed in await directory.lookup_all()]
            now, contacts = directory.time(), directory.contacts
            found += [findings.joined(request.bootstrap, contacts, ""), findings.clock(now - time.time())]
    except SwarmError as error:
        return [*found, *unknown, findings.joined(request.bootstrap, 0, str(error))], []
    network = TlsNetwork(own.identity, swarm_key=request.swarm_key)
    announced = _announced(own, records)
    found += findings.ports(taken, announced or ()) if announced or not own.used else unknown
    data, probe = announced or (request.port, request.probe)
    back = await dialled_back(network, request.bootstrap, request.host, data, probe)
    found += findings.outside(back, own_addresses(), data, probe)
    sight = await swarms.look_at(own.identity, still_here(records), now, request.swarm_key, trace)
    avoided: dict[PeerId, str] = {}
    if request.gateway is not None:
        try:
            avoided = await asyncio.to_thread(avoided_by, request.gateway, request.gateway_key, time.time())
        except GatewayFault as error:
            found.append(Finding("gateway", False, str(error)))
    models = swarms.judged(sight, bans, request.model, avoided)
    if request.model is not None and not models:
        found.append(Finding("model", False, f"no worker announces a model by the name of {request.model}"))
    return found, models


def _announced(own: machine.OwnKey, records: Sequence[PeerRecord]) -> tuple[int, int] | None:
    """The ports that the node of this key tells others, if one runs here and they know of it."""
    mine = [record for record in still_here(records) if record.peer_id == own.identity.peer_id]
    return (mine[0].addresses[0].data, mine[0].addresses[0].probe) if mine and own.used else None
