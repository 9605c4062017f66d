"""Operations on registers, put together one by one as the kernels run them: each register holds some numbers of every row."""

from __future__ import annotations

from ctypes import Structure, addressof
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from swarm.engine.layers.norm import Norm
from swarm.engine.portable.linear import PortableLinear
from swarm.errors import LocalFault
from swarm.kernels.library import CWeight
from swarm.kernels.structures import (
    MAX_REGISTERS,
    OPERATIONS,
    TOGETHER,
    CAttends,
    CExperts,
    COperation,
    CParted,
    CRecurs,
)

ROWS = "rows"  # the register by which rows come in and leave


@dataclass(slots=True)
class Register:
    """Its number, and how many numbers of a row it holds."""

    number: int
    width: int
    together: bool  # written by operations of which threads do parts


class Assembler:
    """Operations in order. `keep` holds whatever they point to."""

    def __init__(self, width: int) -> None:
        self.registers: dict[str, Register] = {ROWS: Register(0, width, False)}
        self.operations: list[COperation] = []
        self.keep: list[object] = []
        self.products: list[int] = []  # of each linear layer, for one row
        self._last_together = ""

    def norm(self, norm: Norm, source: str, to: str, *, at: int = 0, to_at: int = 0, width: int | None = None) -> str:
        """Of `width` columns, each stretch of the norm's own width for itself."""
        own = int(norm.weight.shape[0])
        return self._add(
            "norm",
            source,
            to,
            from_at=at,
            to_at=to_at,
            width=own,
            heads=(width or own) // own,
            a=norm.eps,
            option=norm.centred,
            weight=self.pointer(norm.weight),
            bias=None if norm.bias is None else self.pointer(norm.bias),
        )

    def linear(self, linear: PortableLinear, source: str, to: str) -> str:
        self.products.append(linear.shape[0] * linear.shape[1])
        parted, width = self.parted(linear), linear.shape[0]
        return self._add("linear", source, to, width=width, number=parted.count, weight=parted.parts, bias=parted.bias)

    def parted(self, linear: PortableLinear) -> CParted:
        """Its weights side by side in memory, as the kernels take them."""
        weights = (CWeight * len(linear.parts))(*(part.c for part in linear.parts))
        self.keep += [linear, weights]
        return CParted(addressof(weights), linear.bias_pointer, len(weights))

    def rotate(self, rope: int, source: str, to: str, heads: int, head_dim: int) -> str:
        return self._add("rotate", source, to, width=head_dim, heads=heads, number=rope)

    def activate(
        self,
        kind: int,
        source: str,
        to: str,
        width: int,
        *,
        at: int = 0,
        gated: bool = False,
        limit: float = 0.0,
        slope: float = 0.0,
        offset: float = 0.0,
    ) -> str:
        """Gated: times the columns behind those."""
        return self._add(
            "activate",
            source,
            to,
            from_at=at,
            other=source,
            other_at=at + width,
            width=width,
            number=kind,
            option=gated,
            a=limit,
            b=slope,
            c=offset,
        )

    def copy(self, source: str, to: str, width: int, *, at: int = 0) -> str:
        """From and to the same columns."""
        return self._add("copy", source, to, from_at=at, to_at=at, width=width)

    def add(self, source: str, other: str, to: str, width: int) -> str:
        return self._add("add", source, to, other=other, width=width)

    def multiply(self, source: str, other: str, to: str, width: int, *, by_one: bool = False) -> str:
        """Column by column, or all by the first."""
        return self._add("multiply", source, to, other=other, width=width, option=by_one)

    def scale(self, by: float, source: str, to: str, width: int) -> str:
        return self._add("scale", source, to, width=width, a=by)

    def rounded(self) -> None:
        """Rows to what bf16 can hold."""
        self._add("round", ROWS, ROWS, width=self.registers[ROWS].width)

    def read(self, number: int, at: int, to: str, width: int) -> str:
        """Of what the caller gives besides the rows."""
        return self._add("read", ROWS, to, from_at=at, width=width, number=number)

    def route(self, experts: CExperts, logits: str, to: str) -> str:
        width = 2 * experts.used + experts.count
        self._register(to, width, False)
        return self._add("route", logits, to, width=experts.used, more=self.pointer(experts))

    def experts(self, experts: CExperts, source: str, routes: str, to: str) -> str:
        return self._add("experts", source, to, other=routes, width=experts.hidden, more=self.pointer(experts))

    def attend(self, attends: CAttends, source: str, to: str) -> str:
        width = attends.attention.heads * attends.attention.head_dim
        return self._add("attend", source, to, other_at=width, width=width, more=self.pointer(attends))

    def recur(self, recurs: CRecurs, source: str, to: str) -> str:
        width = recurs.delta.value_heads * recurs.delta.value_dim
        return self._add("recur", source, to, width=width, more=self.pointer(recurs))

    def pointer(self, held: Tensor | Structure) -> int:
        """Its address; it will live as long as this does."""
        self.keep.append(held)
        return held.data_ptr() if isinstance(held, Tensor) else addressof(held)

    def _add(self, kind: str, source: str, to: str, other: str | None = None, heads: int = 1, **fields: Any) -> str:
        together = kind in TOGETHER
        if together and to == self._last_together:
            raise LocalFault(f"{kind} into {to!r}, which another thread may still read")
        self._last_together = to if together else self._last_together
        width: int = fields["width"] * heads + fields.get("to_at", 0)
        numbers = (self.registers[source].number, self.registers[other or source].number)
        operation = COperation(
            kind=OPERATIONS.index(kind),
            from_=numbers[0],
            other=numbers[1],
            to=self._register(to, width, together).number,
            heads=heads,
            **fields,
        )
        self.operations.append(operation)
        return to

    def _register(self, name: str, width: int, together: bool) -> Register:
        found = self.registers.get(name)
        if found is None:
            if len(self.registers) == MAX_REGISTERS:
                raise LocalFault(f"a program of more than {MAX_REGISTERS} registers")
            found = self.registers[name] = Register(len(self.registers), width, together)
        if found.together != together:
            raise LocalFault(f"{name!r} is written by operations on whole rows and by others")
        found.width = max(found.width, width)
        return found
