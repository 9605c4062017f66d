"""What this user knows of peers: those that lied (`swarm peers bans`), by which proof, and how often answers are audited."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarm.cli.keys import bans_file
from swarm.cli.options import LATENCY, REGION
from swarm.config import ClientConfig
from swarm.errors import UsageFault

if TYPE_CHECKING:
    from swarm.client.audits.bans import Ban, Bans

MIN_PEER_DIGITS = 8
MAX_PROOF_BYTES = 64 << 20
HOUR = 3600.0


def audit_options(function: Any) -> Any:
    """--audit and --audit-private."""
    share = click.option(
        "--audit",
        type=click.FloatRange(0, 1),
        default=ClientConfig().audit_share,
        show_default=True,
        metavar="P",
        help="Share of answers of which another worker computes a part again; who lied is banned.",
    )
    private = click.option(
        "--audit-private",
        is_flag=True,
        help="Let workers at private addresses audit each other, as if each had another owner.",
    )
    return share(private(function))


def session_options(function: Any) -> Any:
    """--exact, --exact-class, --through-client, --standby, --region and --max-latency."""
    exact = click.option(
        "--exact",
        is_flag=True,
        help="Only over workers of one numerics class, all along: rather no answer than one that is not bit-exact.",
    )
    named = click.option(
        "--exact-class", metavar="CLASS", help="Likewise, of this class alone, such as portable-1:bf16."
    )
    through = click.option(
        "--through-client",
        is_flag=True,
        help="All rows go from worker to client to worker, as where workers cannot reach each other. Takes longer.",
    )
    standby = click.option(
        "--standby",
        is_flag=True,
        help="For each worker let another compute the same rows beside it, where there is one: one that is lost is then replaced "
        "within a round trip, for as much computing again.",
    )
    region = click.option(
        "--region",
        "regions",
        type=REGION,
        multiple=True,
        help="Only over workers that were started with this --region, or one of several (repeatable).",
    )
    latency = click.option(
        "--max-latency",
        type=LATENCY,
        help="Only over workers whose round trip takes no longer, such as 40ms.  [default: any]",
    )
    return exact(named(through(standby(region(latency(function))))))


def of_sessions(
    exact: bool,
    exact_class: str | None,
    through_client: bool,
    standby: bool,
    regions: tuple[str, ...],
    max_latency: float | None,
) -> dict[str, Any]:
    """What these options set of a `ClientConfig`."""
    numerics = {"exact": exact or exact_class is not None, "numerics": exact_class}
    limits = {"regions": regions, "max_latency": max_latency}
    return {**numerics, **limits, "direct": not through_client, "standby": standby}


@click.group()
def peers() -> None:
    """Show what is remembered of peers on this machine."""


@peers.command("bans")
@click.option("--clear", metavar="PEER", help="Forget that this peer lied: its id, or the first digits.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show_bans(clear: str | None, as_json: bool) -> None:
    """List the peers that lied to this user's clients and are not used until the given time.

    The proof of each is a file that anybody can check with `swarm peers check`.
    """
    from swarm.client.audits.bans import Bans

    bans = Bans(bans_file(os.environ), time.time)
    bans.load()
    if clear is not None:
        _clear(bans, clear)
        return
    entries = bans.entries()
    if as_json:
        click.echo(json.dumps({"bans": [_data(bans, ban) for ban in entries]}))
        return
    if not entries:
        click.echo("no peer is banned")
    for ban in entries:
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(ban.until))
        times = "" if ban.count == 1 else f", banned {ban.count} times so far"
        click.echo(f"{ban.peer_id}  until {until} ({(ban.until - time.time()) / HOUR:.0f} h{times})")
        click.echo(f"  {ban.reason}")
        if bans.proof_of(ban.peer_id).exists():
            click.echo(f"  proof: {bans.proof_of(ban.peer_id)}")


@peers.command("check")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def check(file: Path) -> None:
    """Check the proof in FILE, whoever wrote it: who signed what, and that two others contradict it."""
    from swarm.client.audits.proof import NoProof, Proof

    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_PROOF_BYTES + 1)
        if len(raw) > MAX_PROOF_BYTES:
            raise NoProof(f"it is longer than {MAX_PROOF_BYTES} bytes")
        proof = Proof.parse(json.loads(raw))
        receipt = proof.check()
    except OSError as error:
        raise UsageFault(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # NoProof is one
        raise UsageFault(f"{file} convicts nobody: {error}") from error
    witnesses = [", ".join(str(party.peer_id) for party in witness.hops) for witness in proof.witnesses]
    click.echo(f"peer {proof.liar.peer_id} lied about layers {receipt.span}:")
    click.echo(
        f"it signed rows {receipt.start} to {receipt.stop - 1}, and from the same inputs others were computed by"
    )
    for witness in witnesses:
        click.echo(f"  {witness}")


def _clear(bans: Bans, text: str) -> None:
    """Raises UsageFault."""
    digits = text.strip().lower()
    fitting = [ban.peer_id for ban in bans.entries() if str(ban.peer_id).startswith(digits)]
    if len(digits) < MIN_PEER_DIGITS or len(fitting) != 1:
        known = ", ".join(ban.peer_id.short for ban in bans.entries()) or "none"
        raise UsageFault(
            f"--clear {text}: write the first {MIN_PEER_DIGITS} digits or more of one banned peer's id; banned: {known}"
        )
    bans.clear(fitting[0])
    click.echo(f"peer {fitting[0]} may be used again", err=True)


def _data(bans: Bans, ban: Ban) -> dict[str, Any]:
    proof = bans.proof_of(ban.peer_id)
    return {
        "peer": str(ban.peer_id),
        "since": ban.since,
        "until": ban.until,
        "count": ban.count,
        "reason": ban.reason,
        "proof": str(proof) if proof.exists() else None,
    }
