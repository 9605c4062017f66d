"""Who may take part: the options --swarm-key and --allow, and `swarm key`, which makes and shows what they take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swarm.cli.options import Parsed
from swarm.errors import UsageFault

if TYPE_CHECKING:
    from swarm.identity import PeerId

MAX_ALLOWED = 4096  # peers named with --allow
MAX_FILE_BYTES = MAX_ALLOWED * 256
PEER_DIGITS = 64


def parse_swarm_key(text: str) -> bytes:
    """The secret in a file. Raises UsageFault."""
    from swarm.membership import read_swarm_key

    return read_swarm_key(Path(text))


def parse_allowed(text: str) -> frozenset[PeerId]:
    """A peer's whole id, or a file with an id in each line; # begins a remark there. Raises UsageFault."""
    from swarm.identity import PeerId

    if len(text) == PEER_DIGITS and "." not in text:
        return frozenset((PeerId.parse(text),))
    peers = set()
    for number, line in enumerate(_lines(Path(text)), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            peers.add(PeerId.parse(words[0]))
        except UsageFault as error:
            raise UsageFault(f"{text}, line {number}: {error}") from error
    if not peers:
        raise UsageFault(f"{text} names no peer: with it, nobody would be served")
    return frozenset(peers)


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageFault(
            f"'{path}' is neither a peer's whole id ({PEER_DIGITS} hex digits; `swarm key id` shows one's own) nor a file of "
            f"ids: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageFault(f"{path} is no file of peers' ids: {error}") from error
    if len(text) > MAX_FILE_BYTES:
        raise UsageFault(f"{path} is longer than {MAX_FILE_BYTES} bytes: at most {MAX_ALLOWED} peers are named")
    return text.splitlines()


def everybody_allowed(given: Iterable[frozenset[PeerId]]) -> frozenset[bytes] | None:
    """All --allow together; None without one. Raises UsageFault."""
    peers = frozenset[bytes]().union(*given)
    if len(peers) > MAX_ALLOWED:
        raise UsageFault(f"--allow names {len(peers)} peers: at most {MAX_ALLOWED} are taken; use a swarm key instead")
    return peers or None


swarm_key_option = click.option(
    "--swarm-key",
    type=Parsed("FILE", parse_swarm_key),
    envvar="SWARM_KEY",
    show_envvar=True,
    help="Of a private swarm: only who has the same file takes part. `swarm key new` makes one.",
)
allow_option = click.option(
    "--allow",
    type=Parsed("PEER|FILE", parse_allowed),
    multiple=True,
    help="Serve this peer (repeatable; or a file of ids) and nobody else; a bootstrap also keeps no other's record."
    "  [default: everybody]",
)


@click.group()
def key() -> None:
    """Make the key of a private swarm; show a peer's own id."""


@key.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def new(file: Path) -> None:
    """Make the secret of a private swarm in FILE.

    Copy it to every member, over a way that others do not see: whoever has it is one.
    """
    from swarm.membership import create_swarm_key

    create_swarm_key(file)
    click.echo(
        f"swarm: {file} is a private swarm's key: give --swarm-key {file} to every command of every member", err=True
    )


@key.command("id")
@click.argument("mode", type=click.Choice(["client", "worker", "bootstrap"]), default="client")
@click.option("--key", "file", type=click.Path(dir_okay=False, path_type=Path), help="Identity key file.")
def show_id(mode: str, file: Path | None) -> None:
    """Print the id that this machine's client (or worker, bootstrap) has, for others' --allow.

    Its key file is created if absent. Of several processes of one mode on a machine only the first has this id, unless each is
    given a file with --key.
    """
    import os

    from swarm.cli.keys import data_directory, default_keys
    from swarm.identity import Identity

    path = file or next(default_keys(mode, data_directory(os.environ)))
    click.echo(str(Identity.load_or_create(path).peer_id))
