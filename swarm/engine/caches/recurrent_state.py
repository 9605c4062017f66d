"""States of fixed size that recurrent layers keep of one session, in the place of rows.

No row can be taken out of a state again, so a session holds a few, each at its position: where it stands, where it stood
before the last call, and some where whole chunks of its beginning end, for others to begin with: all of its rows must have
come in whole chunks, unless rows have the same bits however they come. It can be rolled back to these, and to nothing.
Knows nothing of what a state means, nor of who computes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from swarm.engine.numerics import CHUNK_ROWS
from swarm.errors import LocalFault, SessionFault

STATES = 5  # that a session holds at most, all but two of them for others to begin with


Memory = tuple[Tensor, Tensor]  # of one layer: window and memory, of a StateShape
Places = np.ndarray[tuple[int, int], np.dtype[np.int64]]


def states_of(max_rows: int) -> int:
    """How many a session of so many rows may come to hold."""
    return min(STATES, 2 + max_rows // CHUNK_ROWS)


@dataclass(frozen=True, slots=True)
class StateShape:
    """What one layer keeps of all rows of a session."""

    window: tuple[int, int]  # the last rows as they entered its convolution, [rows, channels], in the rows' precision
    memory: tuple[int, int, int]  # [heads, key_dim, value_dim], in fp32

    def bytes(self, row_itemsize: int) -> int:
        return math.prod(self.window) * row_itemsize + math.prod(self.memory) * torch.float32.itemsize


@dataclass(slots=True, eq=False)
class State:
    """One state of all recurrent layers of a session."""

    layers: list[Memory] = field(repr=False)  # of each
    places: Places = field(repr=False)  # addresses of these
    position: int | None = None  # rows that went into it; None: whatever it holds is of no use
    whole: bool = False  # all of them in whole chunks, or as good as that


class States:
    """Those of one session over some recurrent layers, which are counted from 0 here."""

    def __init__(
        self, shapes: Sequence[StateShape], dtype: torch.dtype, device: torch.device, any_cut: bool = False
    ) -> None:
        self.shapes = shapes
        self.dtype = dtype
        self.device = device
        self.any_cut = any_cut  # rows have the same bits however they are cut into calls
        self._states: list[State] = []
        self._source: State | None = None  # of the call under way
        self._target: State | None = None

    def __repr__(self) -> str:
        return f"<States at {sorted(each.position for each in self._states if each.position is not None)}>"

    @property
    def bytes(self) -> int:
        """Of the states that are held."""
        return len(self._states) * sum(shape.bytes(self.dtype.itemsize) for shape in self.shapes)

    def holds(self, position: int) -> bool:
        """Whether a session could go on from there. At 0 every state is zeros."""
        return position == 0 or self._at(position) is not None

    def begin(self, position: int) -> None:
        """A call reads the state at this position and writes another, which counts once it is committed."""
        source = self._at(position)
        if source is None:
            if position:
                raise LocalFault(f"{self!r} were asked to go on from {position}")
            source = self._free()
            for window, memory in source.layers:
                window.zero_()
                memory.zero_()
            source.position, source.whole = 0, True
        self._source, self._target = source, self._free(source)

    def layer(self, index: int, position: int) -> tuple[Memory, Memory]:
        """For rows from that position on: what to read and what to write, in a call that has begun."""
        read, write = self._under_way(position)
        return read.layers[index], write.layers[index]

    def places(self, position: int) -> Places:
        """Where that lies for each layer, [layers, 4]: window and memory that are read, window and memory that are written."""
        if not self.shapes:
            return np.empty((0, 4), dtype=np.int64)
        return np.concatenate([each.places for each in self._under_way(position)], 1)

    def _under_way(self, position: int) -> tuple[State, State]:
        source, target = self._source, self._target
        if source is None or target is None:
            raise LocalFault(f"{self!r}: no call has begun")
        return (source if position == source.position else target), target

    def commit(self, position: int, whole_chunk: bool) -> None:
        """The call has come to its end, at this position."""
        source, target = self._source, self._target
        if source is None or target is None:
            raise LocalFault(f"{self!r}: no call has begun")
        target.position = position
        target.whole = position % CHUNK_ROWS == 0 if self.any_cut else source.whole and whole_chunk
        self._source = self._target = None

    def rollback(self, position: int) -> None:
        """Forget what lies beyond. Whether the position itself is held, `holds` says."""
        for each in self._states:
            if each.position is not None and each.position > position:
                each.position = None

    def beginning(self, rows: int) -> int:
        """How many rows of its beginning, so many at most, another session may begin with."""
        return max((position for each in self._wholes() if (position := each.position or 0) <= rows), default=0)

    def settle(self) -> None:
        """No call will come: of use is only what others may begin with."""
        self._states = self._wholes()

    def close(self) -> None:
        """Give the memory back."""
        self._states = []
        self._source = self._target = None

    def copy(self, parent: States, position: int) -> None:
        """Those of another session's beginning, up to that position. Raises SessionFault."""
        theirs = [each for each in parent._wholes() if (each.position or 0) <= position]
        if not theirs or theirs[-1].position != position:
            raise SessionFault(f"{parent!r}: none is held at {position}, where another session was to begin")
        for other in theirs[2 - STATES :]:
            mine = self._free()
            for one, others in zip(mine.layers, other.layers, strict=True):
                for tensor, given in zip(one, others, strict=True):
                    tensor.copy_(given)
            mine.position, mine.whole = other.position, True

    def _at(self, position: int) -> State | None:
        return next((each for each in self._states if each.position == position), None)

    def _wholes(self) -> list[State]:
        """Those whose rows came in whole chunks, in order; whoever begins as this session does may begin with them."""
        return sorted((each for each in self._states if each.whole and each.position), key=lambda s: s.position or 0)

    def _free(self, source: State | None = None) -> State:
        """One to write: unused, new, or whichever will be missed least."""
        for each in self._states:
            if each.position is None and each is not source:
                return each
        wholes = self._wholes()
        stale = [each for each in self._states if each is not source and each not in wholes]
        if not stale and len(self._states) < STATES:
            self._states.append(self._allocate())
            return self._states[-1]
        chosen = stale[0] if stale else _crowded(wholes)
        chosen.position = None
        return chosen

    def _allocate(self) -> State:
        layers = []
        for shape in self.shapes:
            window = torch.empty(shape.window, dtype=self.dtype, device=self.device)
            layers.append((window, torch.empty(shape.memory, dtype=torch.float32, device=self.device)))
        places = [(window.data_ptr(), memory.data_ptr()) for window, memory in layers]
        return State(layers, np.array(places, dtype=np.int64))


def _crowded(wholes: Sequence[State]) -> State:
    """The one, not the last, without which the rest lie most evenly: nobody knows where others will go their own ways."""
    positions = [0, *(each.position or 0 for each in wholes)]
    gaps = [(positions[index + 2] - positions[index], -index) for index in range(len(wholes) - 1)]
    return wholes[-min(gaps)[1]]
