"""Who may push rows into a session: the predecessor that its owner has named, by a signature over both and the edge's epoch.

A worker knows a session's owner by the channel that opened it. Its predecessor is another worker, which shows the owner's
ticket; nobody else can be it, and no ticket fits another session or a later edge.
"""

from __future__ import annotations

import struct

from swarm.identity import Identity, PeerId

_DOMAIN = b"swarm-edge-1\0"


def _signed(session_id: bytes, epoch: int, predecessor: PeerId) -> bytes:
    return _DOMAIN + session_id + struct.pack(">Q", epoch) + predecessor


def issue(owner: Identity, session_id: bytes, epoch: int, predecessor: PeerId) -> bytes:
    """64 bytes: `predecessor` may push rows into the session, from this epoch on until another's."""
    return owner.sign(_signed(session_id, epoch, predecessor))


def admits(ticket: bytes, owner: PeerId, session_id: bytes, epoch: int, predecessor: PeerId) -> bool:
    """Whether the owner signed that."""
    return owner.verify(ticket, _signed(session_id, epoch, predecessor))
