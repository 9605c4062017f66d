"""A second opinion: the inputs of a span taken through other workers, as an ordinary session, and how two accounts compare.

What the workers see is what they see of a replay: chunks as they were, decode rows joined, then the end of the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from swarm.client.audits.comparison import Errors, recast, row_errors, tolerance_of
from swarm.client.audits.evidence import Account, Evidence
from swarm.client.hops.history import Entry, History
from swarm.client.hops.session import HopSession
from swarm.client.hops.sessions import HopFault, close_hop_sessions, open_hop_sessions
from swarm.client.peers import Peers
from swarm.config import ClientConfig
from swarm.errors import Overloaded, SwarmError
from swarm.precision import rows_of
from swarm.records import ModelRef
from swarm.routing.chain import Hop
from swarm.wire.tensors import Tensor

WINDOW_ROWS = 64  # compared at once, then others have their turn on the event loop
WAIT_SECONDS = 5.0  # for a worker whose queue is full, at most; then it is asked again
PAUSE_SECONDS = 0.25  # at most, while rows of others wait at a worker

Ranges = Sequence[tuple[int, int]]  # first position, one past the last


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What was heard of a span, and from where."""

    account: Account
    precision: str  # that its workers announce
    blocks: frozenset[bytes]  # of addresses that its workers are in


@dataclass(frozen=True, slots=True)
class Likeness:
    """How two opinions compare."""

    same: bool | None  # None: nobody can tell
    measure: str  # by which, for a person


async def second_opinion(
    hops: Sequence[Hop],
    precision: str,
    inputs: History,
    rows: int,
    max_rows: int,
    peers: Peers,
    model: ModelRef,
    config: ClientConfig,
    progress: Callable[[], None],
) -> Account:
    """What `hops` make of the first `rows` inputs, in sessions that have room for `max_rows`. Raises HopFault.

    A worker that has no room now is waited for until the caller gives up.
    """
    links = await open_hop_sessions(hops, peers, model, precision, config, max_rows, History())
    crossed = [History() for _ in range(len(links) + 1)]  # rows by boundary
    try:
        for segment in inputs.segments(config.replay_rows):
            if segment.position >= rows:
                break
            entry = Entry(segment.rows, segment.position, _for(precision, segment.tensor))
            for index, link in enumerate(links):
                output = await _patiently(link, entry)
                progress()
                crossed[index].append(entry)
                entry = Entry(entry.rows, entry.position, output)
                await _give_way(link, peers)
            crossed[-1].append(entry)
    finally:
        await close_hop_sessions(links)
    return Account(
        tuple(
            Evidence(link.hop, link.numerics, crossed[index], crossed[index + 1], tuple(link.receipts))
            for index, link in enumerate(links)
        )
    )


def _for(precision: str, tensor: Tensor) -> Tensor:
    """Rows travel as the worker's plan has them; in one that is not known here as they are."""
    return recast(tensor, rows_of(precision) or tensor.dtype)


async def _patiently(link: HopSession, entry: Entry) -> Tensor:
    while True:
        try:
            return await link.forward(entry)
        except Overloaded as error:
            await asyncio.sleep(min(max(error.retry_after, PAUSE_SECONDS), WAIT_SECONDS))
        except SwarmError as error:
            raise HopFault([(link.hop, error)]) from error


async def _give_way(link: HopSession, peers: Peers) -> None:
    """An audit has time: rows of answers that people wait for go first."""
    load = peers.measurements.get(link.hop.peer_id)
    if load is not None and load.queue_rows:
        await asyncio.sleep(min(PAUSE_SECONDS, load.step_seconds or PAUSE_SECONDS))


async def compare(one: SecondOpinion, other: SecondOpinion, inputs: History, ranges: Ranges) -> Likeness:
    """Bit for bit where both are of one numerics class, else by the tolerance of their precisions."""
    numerics, ours, theirs = one.account.numerics, one.account.outputs, other.account.outputs
    if numerics is not None and numerics == other.account.numerics:
        for start, count in _windows(ranges):
            if ours.bytes_at(start, count) != theirs.bytes_at(start, count):
                return Likeness(False, f"other bits in rows {start} to {start + count}, in one numerics class")
            await asyncio.sleep(0)
        return Likeness(True, "the same bits")
    tolerance = tolerance_of(one.precision, other.precision)
    if tolerance is None:
        return Likeness(None, f"nobody has measured how far {one.precision} and {other.precision} are apart")
    found: list[Errors] = []
    for start, count in _windows(ranges):
        x, a, b = (history.rows_at(start, count) for history in (inputs, ours, theirs))
        found.append(row_errors(x, a, b, tolerance.resolution))
        await asyncio.sleep(0)
    errors = np.concatenate(found)
    figures = f"median {np.median(errors):.2g} and maximum {errors.max():.2g}"
    return Likeness(tolerance.holds(errors), f"errors of {figures} in other numerics classes")


def _windows(ranges: Ranges) -> list[tuple[int, int]]:
    """First position and number of rows."""
    return [
        (start, min(WINDOW_ROWS, stop - start)) for first, stop in ranges for start in range(first, stop, WINDOW_ROWS)
    ]
