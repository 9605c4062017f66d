"""What options mean: addresses, sizes, layers, chains, stops. Pure; knows nothing of the commands that take them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from swarm.config import parse_address
from swarm.errors import UsageFault
from swarm.records import MAX_REGION_BYTES
from swarm.span import AutoLayers

T = TypeVar("T")

SHORTEST = ("shortest",)  # of all chains there are
MIN_PEER_DIGITS = 8  # hex digits of a peer id that are taken for the whole where only one peer fits


def parse_place(text: str) -> tuple[str, int]:
    """`[HOST:]PORT` of this machine, loopback unless it says otherwise. Raises UsageFault."""
    host, _, port = text.strip().rpartition(":")
    if not re.fullmatch(r"\d{1,5}", port) or int(port) >= 1 << 16:
        raise UsageFault(f"'{text}' is no place to listen: write PORT or HOST:PORT, such as 8080 or 0.0.0.0:8080")
    return parse_host(host.strip("[]")) if host else "127.0.0.1", int(port)


def parse_host(text: str) -> str:
    """A numeric address of this machine. Raises UsageFault."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise UsageFault(
            f"'{text}' is no numeric address: write one such as 192.0.2.7; to listen, 127.0.0.1 is this machine alone and :: "
            "every address"
        ) from None


def parse_size(text: str) -> int:
    """`4GB`, `512MiB`: bytes. Raises UsageFault."""
    from swarm.worker.capacity import parse_memory

    return parse_memory(text)


def parse_ids(text: str) -> tuple[int, ...]:
    """`5,17`: a sequence of token ids. Raises UsageFault."""
    if not re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*)*", text):
        raise UsageFault(f"'{text}' is no sequence of token ids: write ID or ID,ID,…")
    return tuple(int(part) for part in text.split(","))


def parse_latency(text: str) -> float:
    """`40ms`, `0.2s`: seconds. Raises UsageFault."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*(ms|s)", text.strip().lower())
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else 0.0
    if seconds <= 0:
        raise UsageFault(f"'{text}' is no latency: write one such as 40ms or 0.2s")
    return seconds


def parse_region(text: str) -> str:
    """A tag such as `eu-west`. Raises UsageFault."""
    region = text.strip()
    if not re.fullmatch(r"\S+", region) or not region.isprintable() or len(region.encode()) > MAX_REGION_BYTES:
        raise UsageFault(f"'{text}' is no region: write a tag without spaces, such as eu-west")
    return region


def parse_chain(text: str) -> tuple[str, ...]:
    """`auto` is (), `shortest` SHORTEST, `PEER,PEER` the peers' ids or the first digits of them, in order. Raises UsageFault."""
    if text.strip().lower() == "auto":
        return ()
    if text.strip().lower() == SHORTEST[0]:
        return SHORTEST
    peers = tuple(part.strip().lower() for part in text.split(","))
    for peer in peers:
        if not re.fullmatch(rf"[0-9a-f]{{{MIN_PEER_DIGITS},64}}", peer):
            raise UsageFault(
                f"'{peer}' is no peer id: write auto, shortest, or peer ids as `swarm status` shows them, with commas between"
            )
    return peers


class Parsed(click.ParamType[T]):
    """An option's type, made of a function that raises UsageFault."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except UsageFault as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Several addresses in one variable: commas or spaces between them."""
        return rv.replace(",", " ").split()


ADDRESS = Parsed("HOST:PORT", parse_address)
ADDRESS_HERE = Parsed("[HOST:]PORT", parse_place)
HOST = Parsed("ADDRESS", parse_host)
SIZE = Parsed("SIZE", parse_size)
IDS = Parsed("ID[,ID…]", parse_ids)
CHAIN = Parsed("auto|shortest|PEER,PEER,…", parse_chain)
LATENCY = Parsed("40ms|0.2s", parse_latency)
REGION = Parsed("TAG", parse_region)
LAYERS = Parsed("auto[:MOST]|FIRST-LAST", AutoLayers.parse)
