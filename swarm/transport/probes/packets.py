"""Round-trip probes as datagrams: what is asked, and what is answered. Pure: knows nothing of sockets or clocks.

    ask      magic | ASK   | nonce | zeros up to PROBE_BYTES      who are you? (anybody may ask)
    cookie   magic | COOKIE| nonce | cookie                       prove that you get what I send to this address
    probe    magic | PROBE | nonce | cookie | zeros up to PROBE_BYTES
    echo     magic | ECHO  | nonce

An answer is shorter than what it answers, so nothing is amplified, and an echo goes only to an address that has shown a
fresh cookie, so the service cannot be made to bounce packets between two others. The server keeps no state for this.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2s

MAGIC = b"SWP1"
NONCE_BYTES = 8
COOKIE_BYTES = 16
PROBE_BYTES = 96  # of what a client sends; answers are shorter
COOKIE_SECONDS = 30.0  # a cookie is good for one to two of these
_HEAD = len(MAGIC) + 1 + NONCE_BYTES


class Kind(IntEnum):
    ASK = 1
    COOKIE = 2
    PROBE = 3
    ECHO = 4


@dataclass(frozen=True, slots=True)
class Datagram:
    """A well-formed datagram of ours."""

    kind: Kind
    nonce: bytes
    cookie: bytes = b""

    def pack(self) -> bytes:
        raw = MAGIC + bytes([self.kind]) + self.nonce + self.cookie
        return raw.ljust(PROBE_BYTES, b"\0") if self.kind in (Kind.ASK, Kind.PROBE) else raw

    @classmethod
    def parse(cls, raw: bytes) -> Datagram | None:
        """None for anything that is not exactly one of ours."""
        if len(raw) < _HEAD or len(raw) > PROBE_BYTES or not raw.startswith(MAGIC) or not 1 <= raw[4] <= 4:
            return None
        kind = Kind(raw[4])
        has_cookie = kind in (Kind.COOKIE, Kind.PROBE)
        parsed = cls(kind, raw[5:_HEAD], raw[_HEAD : _HEAD + COOKIE_BYTES] if has_cookie else b"")
        return parsed if parsed.pack() == raw else None


class Oracle:
    """Answers probes. `secret` makes its cookies."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def answer(self, raw: bytes, source: tuple[str, int], now: float) -> bytes | None:
        """The answer to a datagram from `source`, shorter than it; None to say nothing."""
        asked = Datagram.parse(raw)
        if asked is None:
            return None
        epoch = int(now / COOKIE_SECONDS)
        if asked.kind is Kind.ASK:
            return Datagram(Kind.COOKIE, asked.nonce, self._cookie(source, epoch)).pack()
        if asked.kind is Kind.PROBE:
            good = [self._cookie(source, epoch), self._cookie(source, epoch - 1)]
            if any(hmac.compare_digest(asked.cookie, cookie) for cookie in good):
                return Datagram(Kind.ECHO, asked.nonce).pack()
        return None

    def _cookie(self, source: tuple[str, int], epoch: int) -> bytes:
        text = f"{source[0]} {source[1]} {epoch}".encode()
        return blake2s(text, key=self._secret, digest_size=COOKIE_BYTES).digest()


class Survey:
    """One client's probes of one server: asks for a cookie, then probes until it has `count` round trips."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._cookie: bytes | None = None
        self._asked: dict[bytes, float] = {}  # nonce: when it was sent; the caller bounds how often it asks
        self.best: float | None = None  # seconds, the least round trip

    @property
    def done(self) -> bool:
        return self._left <= 0

    def next(self, nonce: bytes, now: float) -> bytes:
        """What to send now. Answers to older questions still count: a link may be slower than our patience."""
        self._asked[nonce] = now
        if self._cookie is None:
            return Datagram(Kind.ASK, nonce).pack()
        return Datagram(Kind.PROBE, nonce, self._cookie).pack()

    def take(self, raw: bytes, now: float) -> bool:
        """Whether this datagram answers a question of ours."""
        got = Datagram.parse(raw)
        sent_at = None if got is None else self._asked.pop(got.nonce, None)
        if got is None or sent_at is None or got.kind not in (Kind.COOKIE, Kind.ECHO):
            return False
        seconds = now - sent_at
        self.best = seconds if self.best is None else min(self.best, seconds)
        self._cookie = self._cookie or got.cookie or None
        self._left -= 1
        return True
