"""Asks a running gateway whom its clients avoid: only who used a worker can know that it failed."""

from __future__ import annotations

import json
import time
from http.client import HTTPException
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from swarm.identity import PeerId

ASK_SECONDS = 5.0
MAX_BYTES = 4 << 20


class GatewayFault(Exception):
    """It does not answer, or not as a gateway does; the text says how."""


def avoided_by(url: str, key: str | None, now: float) -> dict[PeerId, str]:
    """Until when it avoids which peers, and why. Blocks. `now`: seconds since the epoch. Raises GatewayFault."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise GatewayFault(f"{url} is no address of an API: write one such as http://127.0.0.1:8080")
    asked = Request(url.rstrip("/") + "/api/status", headers={"authorization": f"Bearer {key}"} if key else {})
    try:
        with urlopen(asked, timeout=ASK_SECONDS) as reply:
            return read_status(json.loads(reply.read(MAX_BYTES)), url, now)
    except (URLError, HTTPException, OSError) as error:
        raise GatewayFault(f"{url} does not tell its status: {error}; see --gateway and --gateway-key") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise GatewayFault(f"{url} answers, and not as a gateway of swarm does") from error


def read_status(status: dict[str, list[dict[str, str | float]]], url: str, now: float) -> dict[PeerId, str]:
    """From what `/api/status` says. Raises one of the errors of data that is not as it should be."""
    told = {}
    for each in status["avoided"]:
        until = time.strftime("%H:%M:%S", time.localtime(now + float(each["seconds"])))
        fault = "".join(filter(str.isprintable, str(each["fault"])))
        told[PeerId(bytes.fromhex(str(each["peer"])))] = f"until {until}, by the clients of {url}: {fault}"
    return told
