"""What makes a swarm private: a secret that its members share, kept in a file, and the proof that a peer holds it.

The proof is bound to the peer's own key, so that whoever sees it cannot use it. Without a secret a swarm is open, and an open
swarm and a private one do not mix. Knows nothing of certificates or of the directory, which carry and use this.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from pathlib import Path

from swarm.errors import UsageFault
from swarm.identity import PeerId

SWARM_KEY_BYTES = 32  # drawn, never chosen: proofs are shown to strangers, who could try out what people choose
PROOF_BYTES = 32
MAX_FILE_BYTES = 1 << 10
_MARK = "swarm-key-1:"  # so that a peer's own key is not taken for a swarm's
_DOMAIN = b"swarm-member-1\0"


def create_swarm_key(path: Path) -> None:
    """A new secret in a new file that its owner alone may read. Raises UsageFault; what is there is never replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageFault(f"{path} exists: a swarm key is not replaced; move it away or name another file") from None
    except OSError as error:
        raise UsageFault(f"the swarm key {path} cannot be created: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{_MARK}{secrets.token_hex(SWARM_KEY_BYTES)}\n")


def read_swarm_key(path: Path) -> bytes:
    """The secret in a file. Raises UsageFault."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise UsageFault(f"the swarm key {path} cannot be read: {error.strerror}") from error
    match = re.fullmatch(rf"{re.escape(_MARK)}([0-9a-f]{{{2 * SWARM_KEY_BYTES}}})", text)
    if match is None:
        raise UsageFault(f"{path} is no swarm key: `swarm key new FILE` makes one, for every member to copy")
    return bytes.fromhex(match[1])


def proof_of(swarm_key: bytes, peer_id: PeerId) -> bytes:
    """What a member shows beside its own key: HMAC-SHA256 (RFC 2104) of that key under the secret."""
    return hmac.digest(swarm_key, _DOMAIN + bytes(peer_id), "sha256")


def stranger(swarm_key: bytes | None, peer_id: PeerId, shown: bytes | None) -> str | None:
    """Why a peer that shows this proof is of another swarm than whoever has `swarm_key`, in words; None if it is not."""
    if swarm_key is None:
        if shown is None:
            return None
        return "it is of a private swarm, and no key of it was given here: name the key file with --swarm-key"
    if shown is None:
        return "it is of no private swarm, and a swarm key was given here: use --swarm-key on both sides or on neither"
    if not hmac.compare_digest(shown, proof_of(swarm_key, peer_id)):
        return "it is of another private swarm: its swarm key is not the one that was given here with --swarm-key"
    return None
