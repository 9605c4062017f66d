"""Which rows a session takes next: how many together, and at which position. Pure."""

from __future__ import annotations

from swarm.errors import Gap, SessionFault, UsageFault
from swarm.wire.messages import Forward, Push
from swarm.wire.rows import Rows
from swarm.worker.sessions import SessionSlot


def check_rows(message: Forward | Push, chunk_rows: int, both_ways: bool, any_cut: bool = False) -> None:
    """Whether these rows can be computed together, at their position; with `any_cut` any can. Raises UsageFault."""
    if both_ways and (message.rows is Rows.DECODE or message.position):
        raise UsageFault("this model takes all rows of a text at once: a session has one chunk, and nothing follows it")
    count = message.tensor.shape[0]
    if message.rows is Rows.CHUNK and not any_cut and message.position % chunk_rows + count > chunk_rows:
        raise UsageFault(f"a chunk of {count} rows at position {message.position} crosses the grid of {chunk_rows}")


def check_position(slot: SessionSlot, message: Forward | Push) -> None:
    """A position may repeat or go back as far as the cache does, never leave a gap. Raises Gap or SessionFault.

    A worker that attended over rows it never saw would answer with plausible nonsense.
    """
    if message.position > slot.cache.position:
        raise Gap(
            f"position {message.position} leaves a gap: session {slot.session_id.hex()[:8]} holds {slot.cache.position} rows here"
        )
    if not slot.cache.holds(message.position):
        raise SessionFault(
            f"session {slot.session_id.hex()[:8]} cannot go back from {slot.cache.position} to {message.position}: some "
            "layers here keep a state of few positions; it can be replayed"
        )
