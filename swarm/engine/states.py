"""States of fixed size that recurrent layers keep of one session, in the place of rows.

No row can be taken out of a state again, so a session holds a few whole ones, each at its position: where it stands, where it
stood before the last call, and where the whole chunks of its beginning end. It can be rolled back to these, and to nothing.
Knows nothing of what a state means, nor of who computes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from swarm.errors import LocalFault, SessionFault

STATES = 3  # that a session holds


Memory = tuple[Tensor, Tensor]  # of one layer: window and memory, of a StateShape


@dataclass(frozen=True, slots=True)
class StateShape:
    """What one layer keeps of all rows of a session."""

    window: tuple[int, int]  # the last rows as they entered its convolution, [rows, channels], in the rows' precision
    memory: tuple[int, int, int]  # [heads, key_dim, value_dim], in fp32

    def bytes(self, row_itemsize: int) -> int:
        return math.prod(self.window) * row_itemsize + math.prod(self.memory) * torch.float32.itemsize


@dataclass(slots=True)
class State:
    """One state of all recurrent layers of a session."""

    layers: list[Memory] = field(repr=False)  # of each
    position: int | None = None  # rows that went into it; None: whatever it holds is of no use
    whole: bool = False  # all of them in whole chunks


class States:
    """Those of one session over some recurrent layers, which are counted from 0 here."""

    def __init__(self, shapes: Sequence[StateShape], dtype: torch.dtype, device: torch.device) -> None:
        self.shapes = shapes
        self.dtype = dtype
        self.device = device
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
        source, target = self._source, self._target
        if source is None or target is None:
            raise LocalFault(f"{self!r}: no call has begun")
        read = source if position == source.position else target
        return read.layers[index], target.layers[index]

    def commit(self, position: int, whole_chunk: bool) -> None:
        """The call has come to its end, at this position."""
        source, target = self._source, self._target
        if source is None or target is None:
            raise LocalFault(f"{self!r}: no call has begun")
        target.position, target.whole = position, source.whole and whole_chunk
        self._source = self._target = None

    def rollback(self, position: int) -> None:
        """Forget what lies beyond. Whether the position itself is held, `holds` says."""
        for each in self._states:
            if each.position is not None and each.position > position:
                each.position = None

    def settle(self) -> None:
        """No call will come: of use is only what others may begin with."""
        whole = self._whole()
        self._states = [] if whole is None else [whole]

    def close(self) -> None:
        """Give the memory back."""
        self._states = []
        self._source = self._target = None

    def copy(self, parent: States, position: int, indices: Sequence[int]) -> None:
        """Another session's state in some layers. It counts once `copied` says so. Raises SessionFault."""
        theirs = parent._at(position)
        if theirs is None:
            raise SessionFault(f"{parent!r}: none is held at {position}, where another session was to begin")
        if not self._states:
            self._free()
        for index in indices:
            for mine, other in zip(self._states[0].layers[index], theirs.layers[index], strict=True):
                mine.copy_(other)

    def copied(self, position: int) -> None:
        """All layers have been copied."""
        self._states[0].position, self._states[0].whole = position, True

    def _at(self, position: int) -> State | None:
        return next((each for each in self._states if each.position == position), None)

    def _whole(self) -> State | None:
        """The last whose rows came in whole chunks; whoever begins as this session does may begin with it."""
        whole = [each for each in self._states if each.whole and each.position]
        return max(whole, key=lambda each: each.position or 0, default=None)

    def _free(self, source: State | None = None) -> State:
        """One to write: unused, new, or the first that neither this call nor others need."""
        for each in self._states:
            if each.position is None and each is not source:
                return each
        if len(self._states) < STATES:
            self._states.append(self._allocate())
            return self._states[-1]
        kept = self._whole()
        spare = [each for each in self._states if each is not source and each is not kept]
        oldest = min(spare, key=lambda each: each.position or 0)
        oldest.position = None
        return oldest

    def _allocate(self) -> State:
        layers = []
        for shape in self.shapes:
            window = torch.empty(shape.window, dtype=self.dtype, device=self.device)
            layers.append((window, torch.empty(shape.memory, dtype=torch.float32, device=self.device)))
        return State(layers)
