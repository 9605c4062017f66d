"""Who may ask, and whose prefixes are whose. Pure."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence

from swarm.errors import UsageFault
from swarm.gateway.http.errors import Unauthorised

OWNER_DIGITS = 16


class Keys:
    """The API keys of a gateway; with none of them, everybody who reaches it may ask."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not all(keys):
            raise UsageFault("an API key is empty")
        self._keys = tuple(key.encode() for key in keys)

    @property
    def needed(self) -> bool:
        return bool(self._keys)

    def owner(self, headers: Mapping[str, str]) -> str:
        """Whose request it is: a digest of the key, "" where none is needed. Raises Unauthorised.

        The key is taken from `Authorization: Bearer …` as OpenAI's clients send it, or `x-api-key` as Anthropic's do.
        """
        if not self._keys:
            return ""
        kind, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        if not key:
            raise Unauthorised("this gateway asks for an API key: send it as `Authorization: Bearer KEY`")
        # All are compared, so that the time taken tells nothing about which one was nearly right. Headers are bytes, which
        # the server takes for Latin-1.
        if not sum([hmac.compare_digest(key.encode("latin-1"), known) for known in self._keys]):
            raise Unauthorised("this API key is not known here")
        return hashlib.sha256(key.encode("latin-1")).hexdigest()[:OWNER_DIGITS]


def check_exposure(host: str, keys: Sequence[str]) -> None:
    """A gateway that others can reach needs a key. Raises UsageFault."""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if not here and not keys:
        raise UsageFault(
            f"the API on {host} could be used by anybody who reaches this machine: give --api-key KEY, or listen on 127.0.0.1"
        )
