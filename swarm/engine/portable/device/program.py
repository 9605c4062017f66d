"""A span of layers as one program on a device: what program.h does, operation after operation, for all rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from swarm.engine.caches.kv_cache import SessionCache
from swarm.engine.portable.device import experts
from swarm.engine.portable.device.sight import Sight
from swarm.engine.portable.device.uploads import Uploads
from swarm.engine.portable.program import Program
from swarm.kernels.library import CACHES
from swarm.kernels.structures import OPERATIONS, CAttends, CExperts, COperation, CRecurs
from swarm.kernels.triton import attention, delta, rows
from swarm.kernels.triton.launching import current
from swarm.span import LayerSpan


class DeviceProgram:
    """Takes a program whose weights are on the CPU; copies of them go to the device."""

    def __init__(self, program: Program, device: torch.device) -> None:
        self.device = device
        self._program = program
        self._widths = program.widths
        self._uploads = Uploads(program.keep, device)
        self._turns: dict[int, tuple[Tensor, Tensor]] = {}
        self._ways: dict[str, Callable[[COperation, Pass], None]] = {
            "read": self._read,
            "norm": self._norm,
            "rotate": self._rotate,
            "activate": self._activate,
            "copy": self._copy,
            "add": self._add,
            "multiply": self._multiply,
            "scale": self._scale,
            "round": self._round,
            "route": self._route,
            "linear": self._linear,
            "attend": self._attend,
            "experts": self._experts,
            "recur": self._recur,
        }
        for operation in program.operations:  # now, so that no room is missing later
            if OPERATIONS[operation.kind] == "linear":
                self._uploads.linear(operation.weight)
            elif OPERATIONS[operation.kind] == "experts":
                self._uploads.pairs(self._uploads.described(operation.more, CExperts))

    @property
    def attends(self) -> Sequence[CAttends]:
        return self._program.attends

    def sessions(
        self,
        span: LayerSpan,
        caches: Sequence[SessionCache],
        positions: Sequence[int],
        x: Tensor,
        given: Sequence[Tensor],
    ) -> Tensor:
        """See Runs."""
        first = span.start - self._program.span.start
        before = sum(self._program.recurrent[:first])
        sight = Sight.of_sessions(first, before, caches, positions, self._biases(positions), self.device)
        return self._run(span, x, given, sight)

    def text(self, span: LayerSpan, x: Tensor) -> Tensor:
        """See Runs."""
        positions = range(x.shape[0])
        return self._run(span, x, (), Sight.of_text(positions, self._biases(positions), self.device))

    def _biases(self, positions: Sequence[int]) -> list[Tensor]:
        biases = self._program.biases
        return [] if biases is None else [each.to(self.device) for each in biases.of(positions)]

    def _run(self, span: LayerSpan, x: Tensor, given: Sequence[Tensor], sight: Sight) -> Tensor:
        registers = [torch.empty(x.shape[0], width, device=self.device) for width in self._widths]
        registers[0].copy_(x[:, : self._widths[0]])
        way = Pass(registers, [each.to(self.device) for each in given], sight)
        with current(self.device):
            for operation in self._program.of(span):
                self._ways[OPERATIONS[operation.kind]](operation, way)
        return registers[0].to(self._program.dtype)

    def _read(self, todo: COperation, way: Pass) -> None:
        way.to(todo, todo.width).copy_(way.given[todo.number][:, todo.from_at : todo.from_at + todo.width])

    def _norm(self, todo: COperation, way: Pass) -> None:
        width, weight, bias = (
            todo.width * todo.heads,
            self._uploads.tensor(todo.weight),
            self._uploads.tensor(todo.bias),
        )
        source, out = way.source(todo, width), way.to(todo, width)
        rows.norm(source, out, weight, bias, todo.width, todo.a, bool(todo.option))

    def _rotate(self, todo: COperation, way: Pass) -> None:
        width = todo.width * todo.heads
        cos, sin = self._turning(todo.number, way.sight.last)
        rows.rotate(way.source(todo, width), way.to(todo, width), todo.heads, way.sight.positions, cos, sin)

    def _turning(self, number: int, position: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines up to that position at least."""
        held = self._turns.get(number)
        if held is None or held[0].shape[0] <= position:
            cos, sin = self._program.ropes[number].reaching(position)
            held = self._turns[number] = (cos.to(self.device), sin.to(self.device))
        return held

    def _activate(self, todo: COperation, way: Pass) -> None:
        other = way.other(todo, todo.width) if todo.option else None
        source, out = way.source(todo, todo.width), way.to(todo, todo.width)
        rows.activate(source, other, out, todo.number, todo.a, todo.b, todo.c)

    # One operation of each number, rounded once, is the same in torch's kernels
    def _copy(self, todo: COperation, way: Pass) -> None:
        way.to(todo, todo.width).copy_(way.source(todo, todo.width))

    def _add(self, todo: COperation, way: Pass) -> None:
        torch.add(way.source(todo, todo.width), way.other(todo, todo.width), out=way.to(todo, todo.width))

    def _multiply(self, todo: COperation, way: Pass) -> None:
        other = way.other(todo, 1 if todo.option else todo.width)
        torch.mul(way.source(todo, todo.width), other, out=way.to(todo, todo.width))

    def _scale(self, todo: COperation, way: Pass) -> None:
        torch.mul(way.source(todo, todo.width), todo.a, out=way.to(todo, todo.width))

    def _round(self, todo: COperation, way: Pass) -> None:
        way.to(todo, todo.width).copy_(way.source(todo, todo.width).to(torch.bfloat16))

    def _linear(self, todo: COperation, way: Pass) -> None:
        linear = self._uploads.linear(todo.weight)
        x = way.registers[todo.from_][:, todo.from_at :]
        linear.into(way.to(todo, linear.outputs), x)

    def _attend(self, todo: COperation, way: Pass) -> None:
        attends = self._uploads.described(todo.more, CAttends)
        shape = attends.attention
        asked = attention.Attending(
            *(shape.heads, shape.kv_heads, shape.head_dim, shape.cache, shape.scale, shape.softcap),
            self._uploads.tensor(shape.sinks),
        )
        x = way.registers[todo.from_]
        seen = way.sight.seen(attends, x, todo.other_at)
        if attends.stores and seen.tiled:
            attention.store(asked, x, todo.other_at, seen, way.sight.positions)
        attention.attend(asked, x[:, todo.from_at :], seen, way.to(todo, todo.width))

    def _recur(self, todo: COperation, way: Pass) -> None:
        recurs = self._uploads.described(todo.more, CRecurs)
        shape, held = recurs.delta, self._uploads.needed
        recurring = delta.Recurring(
            *(shape.key_heads, shape.value_heads, shape.key_dim, shape.value_dim, shape.taps),
            CACHES[shape.window] == "bf16",
            shape.norm_eps,
            *(held(shape.weights), held(shape.rates), held(shape.step_bias), held(shape.norm)),
        )
        x = way.registers[todo.from_][:, todo.from_at :]
        delta.recur(recurring, x, way.sight.passing(recurs.layer), way.to(todo, todo.width))

    def _route(self, todo: COperation, way: Pass) -> None:
        described = self._uploads.described(todo.more, CExperts)
        scales = self._uploads.experts(described).scales
        logits = way.source(todo, described.count)
        held = None if scales is None else scales.to(self.device)
        experts.route(described, logits, held, way.to(todo, 2 * described.used))

    def _experts(self, todo: COperation, way: Pass) -> None:
        described = self._uploads.described(todo.more, CExperts)
        x, out = way.source(todo, described.hidden), way.to(todo, described.hidden)
        experts.through(described, self._uploads.pairs(described), x, way.registers[todo.other], out)


class Pass:
    """Rows on their way: registers [rows, width] in fp32, what is given besides rows, and what each sees."""

    def __init__(self, registers: list[Tensor], given: list[Tensor], sight: Sight) -> None:
        self.registers = registers
        self.given = given
        self.sight = sight

    def source(self, todo: COperation, width: int) -> Tensor:
        first: int = todo.from_at
        return self.registers[int(todo.from_)][:, first : first + width]

    def other(self, todo: COperation, width: int) -> Tensor:
        first: int = todo.other_at
        return self.registers[int(todo.other)][:, first : first + width]

    def to(self, todo: COperation, width: int) -> Tensor:
        first: int = todo.to_at
        return self.registers[int(todo.to)][:, first : first + width]
