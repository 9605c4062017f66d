"""A span of layers as one program, through which rows of any sessions go in one call. There is one way for prompts, answers and
replays: each row for itself."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, c_int32, sizeof
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from swarm.engine.caches.kv_cache import SessionCache
from swarm.engine.layers.alibi import AlibiTable
from swarm.engine.layers.relative_position import distance_biases
from swarm.engine.numerics import portable_kernels
from swarm.engine.portable.assembler import Assembler
from swarm.engine.portable.room import zeros
from swarm.engine.portable.rope import PortableRopeTable
from swarm.errors import LocalFault
from swarm.kernels.library import CACHES
from swarm.kernels.structures import CAttends, CGiven, COperation, CPassing, CProgram, CTurning
from swarm.span import LayerSpan

KEPT_ROOM = 4 << 20  # bytes that stay reserved between calls: of decode rows, not of a prompt
CACHED_BYTES = 24  # of `struct cached`
STATE_BYTES = 32  # of `struct state`


class Biases(Protocol):
    """What is added to products of queries and keys."""

    def of(self, positions: Sequence[int]) -> list[Tensor]:
        """For each row, fp32 [heads, positions that it sees]."""


class Runs(Protocol):
    """What a program does, wherever it is computed."""

    @property
    def attends(self) -> Sequence[CAttends]:
        """What its operations say of attention, layer by layer."""

    def sessions(
        self,
        span: LayerSpan,
        caches: Sequence[SessionCache],
        positions: Sequence[int],
        x: Tensor,
        given: Sequence[Tensor],
    ) -> Tensor:
        """Row i of x [rows, width], of caches[i] at positions[i], through layers of the span; several may be of one session.

        `given`: what layers take besides, fp32 [rows, ...] each.
        """

    def text(self, span: LayerSpan, x: Tensor) -> Tensor:
        """All rows of a text, each of which sees those before and after it. Nothing is cached."""


class DistanceBiases:
    """Of a text, by how far apart two rows are."""

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def of(self, positions: Sequence[int]) -> list[Tensor]:
        rows = distance_biases(self.table, len(positions)).view(-1, len(positions), len(positions))
        return list(rows.transpose(0, 1).contiguous())


class LinearBiases:
    """Of a session, by how far apart two positions are."""

    def __init__(self, table: AlibiTable, window: int | None) -> None:
        self.table = table
        self.window = window

    def of(self, positions: Sequence[int]) -> list[Tensor]:
        firsts = [0 if self.window is None else max(0, each + 1 - self.window) for each in positions]
        return [self.table.row(each)[:, first:].contiguous() for each, first in zip(positions, firsts, strict=True)]


class Program:
    """Takes what an assembler put together; `starts` says with which operation each layer begins, `recurrent` which keep a
    state."""

    def __init__(
        self,
        span: LayerSpan,
        assembled: Assembler,
        starts: Sequence[int],
        recurrent: Sequence[bool],
        ropes: Sequence[PortableRopeTable],
        dtype: torch.dtype,
        biases: Biases | None,
    ) -> None:
        self.span = span
        self.recurrent = recurrent
        self.ropes = ropes
        self.dtype = dtype
        self.biases = biases
        self._kernels = portable_kernels()
        self._starts = [*starts, len(assembled.operations)]
        self.keep = assembled.keep  # whatever operations point to
        self.attends = [each for each in assembled.keep if isinstance(each, CAttends)]
        self.operations = (COperation * len(assembled.operations))(*assembled.operations)
        registers = sorted(assembled.registers.values(), key=lambda each: each.number)
        self.widths = [each.width for each in registers]
        self._widths = (c_int32 * len(registers))(*self.widths)
        self._together = (c_int32 * len(registers))(*(each.together for each in registers))
        self._products = sum(assembled.products) // max(1, len(assembled.products))
        self._kind = CACHES.index("fp32" if dtype == torch.float32 else "bf16")
        self._room = torch.empty(0, dtype=torch.uint8)

    def sessions(
        self,
        span: LayerSpan,
        caches: Sequence[SessionCache],
        positions: Sequence[int],
        x: Tensor,
        given: Sequence[Tensor],
    ) -> Tensor:
        """See Runs."""
        numbers: dict[int, int] = {}
        tables: list[int] = []
        states: list[np.ndarray[tuple[int, int], np.dtype[np.int64]]] = []
        first = span.start - self.span.start
        for cache, position in zip(caches, positions, strict=True):
            if id(cache) not in numbers:
                numbers[id(cache)] = len(tables)
                tables.append(cache.places().ctypes.data - first * CACHED_BYTES)
                states.append(cache.state_places(position))
        places, held = np.array(positions, dtype=np.int64), np.array(tables, dtype=np.uint64)
        sessions = np.array([numbers[id(cache)] for cache in caches], dtype=np.int32)
        before = sum(self.recurrent[:first]) * STATE_BYTES
        kept = np.array([each.ctypes.data - before for each in states], dtype=np.uint64)
        passing = CPassing(
            positions=places.ctypes.data,
            sessions=sessions.ctypes.data,
            caches=held.ctypes.data,
            states=kept.ctypes.data,
        )
        return self._run(passing, span, positions, x, given)

    def text(self, span: LayerSpan, x: Tensor) -> Tensor:
        """See Runs."""
        return self._run(CPassing(), span, range(x.shape[0]), x, ())

    def of(self, span: LayerSpan) -> list[COperation]:
        """The operations of some layers."""
        first, last = self._bounds(span)
        return list(self.operations[first:last])

    def _bounds(self, span: LayerSpan) -> tuple[int, int]:
        return self._starts[span.start - self.span.start], self._starts[span.stop - self.span.start]

    def _run(
        self, passing: CPassing, span: LayerSpan, positions: Sequence[int], x: Tensor, given: Sequence[Tensor]
    ) -> Tensor:
        x = x if x.stride(1) == 1 else x.contiguous()
        first, last = self._bounds(span)
        program = CProgram(
            addressof(self.operations) + first * sizeof(COperation),
            addressof(self._widths),
            addressof(self._together),
            last - first,
            len(self._widths),
        )
        out = torch.empty(x.shape[0], self.widths[0], dtype=self.dtype)
        turnings = (CTurning * max(1, len(self.ropes)))()
        for turning, rope in zip(turnings, self.ropes, strict=False):
            cos, sin = rope.reaching(max(positions))
            turning.cos, turning.sin, turning.half = cos.data_ptr(), sin.data_ptr(), cos.shape[1]
        inputs = (CGiven * max(1, len(given)))(*(CGiven(each.data_ptr(), each.stride(0)) for each in given))
        biases = [] if self.biases is None else self.biases.of(positions)
        added = np.array([each.data_ptr() for each in biases], dtype=np.uint64)
        passing.program, passing.rows, passing.out = addressof(program), x.data_ptr(), out.data_ptr()
        passing.ld_rows, passing.count, passing.kind = x.stride(0), x.shape[0], self._kind
        passing.turnings, passing.inputs = addressof(turnings), addressof(inputs)
        passing.biases = added.ctypes.data if biases else None
        room = self._room_for(passing)
        passing.room = room.data_ptr()
        self._kernels.run(passing, self._products)
        return out

    def _room_for(self, passing: CPassing) -> Tensor:
        needed = self._kernels.program_room(passing)
        if needed <= self._room.nbytes:
            return self._room
        room = zeros(needed)  # not from an allocator, which might keep it
        if needed <= KEPT_ROOM:
            self._room = room
        return room


def one_set_of_biases(
    alibi: AlibiTable | None, tables: Sequence[Tensor | None], windows: Sequence[int | None]
) -> Biases | None:
    """What all layers add, of which each keeps the same. Raises LocalFault where layers differ in what they see."""
    table = next((each for each in tables if each is not None), None)
    if alibi is None and table is None:
        return None
    if len(set(windows)) > 1 or (table is not None and windows[0] is not None):
        raise LocalFault("biases, and windows in some layers, do not go together")
    if alibi is not None:
        return LinearBiases(alibi, windows[0])
    assert table is not None
    return DistanceBiases(table)
