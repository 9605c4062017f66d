"""What this client's own sessions do at each worker: enough to know whose prompts may slip between a session's rows. Pure."""

from __future__ import annotations

from collections import Counter

from swarm.identity import PeerId


class Interference:
    """Bounded by the links that are open."""

    def __init__(self) -> None:
        self._links: Counter[PeerId] = Counter()
        self._chunks: Counter[PeerId] = Counter()  # under way
        self._ended: dict[PeerId, float] = {}  # when the last chunk was done

    def opened(self, peer_id: PeerId) -> None:
        """One more session of ours is at this worker."""
        self._links[peer_id] += 1

    def closed(self, peer_id: PeerId) -> None:
        self._links[peer_id] -= 1
        if not self._links[peer_id]:
            del self._links[peer_id]
            self._ended.pop(peer_id, None)

    def chunk_began(self, peer_id: PeerId) -> None:
        self._chunks[peer_id] += 1

    def chunk_ended(self, peer_id: PeerId, now: float) -> None:
        self._chunks[peer_id] -= 1
        if not self._chunks[peer_id]:
            del self._chunks[peer_id]
        if peer_id in self._links:
            self._ended[peer_id] = now

    def chunks_since(self, peer_id: PeerId, sessions: int, since: float) -> bool:
        """Whether a chunk may have been computed there since then; `sessions`: how many the worker says it has."""
        ours = self._chunks[peer_id] > 0 or self._ended.get(peer_id, since) > since
        return ours or sessions > self._links[peer_id]
