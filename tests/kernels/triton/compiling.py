"""Compiles kernels for a GPU that is not here, and prints what would not be IEEE arithmetic of single operations.

Run in a process of its own: where Triton interprets it does not compile. Prints a line for each kernel, with what is wrong.
"""

from __future__ import annotations

import os
import re
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from swarm.kernels.triton import attention, delta, linear, rows
from swarm.kernels.triton.weights import DeviceWeight

TARGET = GPUTarget("cuda", 80, 32)
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
# Subnormals flushed, approximations, products of rounded numbers, and sums and products that do not say how they are rounded,
# which the assembler may contract
WRONG = re.compile(
    r"\S*\.ftz\S*|\S*approx\S*|\S*tf32\S*|\b(?:add|mul|sub|mad)\.f32|div\.full\S*|mma\S*\.f32\.(?:f16|bf16)\S*"
)


def type_of(given: object) -> str:
    if isinstance(given, torch.Tensor):
        return TYPES[given.dtype]
    return "fp32" if isinstance(given, float) else "i32"


def compiled(self: Any, *args: object, grid: object, warmup: bool, **more: object) -> None:
    """In the place of a launch."""
    names = [each.name for each in self.params]
    constant = {each.name for each in self.params if each.is_constexpr}
    given = {**dict(zip(names, args, strict=False)), **{name: more[name] for name in names if name in more}}
    constant |= {
        name for name in names if type(given[name]) is int and given[name] == 1
    }  # a launch compiles these apart
    signature = {name: "constexpr" if name in constant else type_of(given[name]) for name in names}
    source = ASTSource(self, signature, {name: given[name] for name in names if name in constant})
    options = {name: value for name, value in more.items() if name not in names}
    assembly = triton.compile(source, target=TARGET, options=options).asm["ptx"]
    print(self.fn.__name__, *sorted(set(WRONG.findall(assembly))))


def launch_all() -> None:
    x, bytes_ = torch.zeros(3, 64), torch.zeros(1 << 14, dtype=torch.uint8)
    rows.norm(x, x, x[0], x[0], 64, 1e-5, True)
    for kind in (1, 2, 3, 7):  # of which the others are parts
        rows.activate(x, x, x, kind, 1.0, 0.0, 1.0)
    rows.activate(x, x, x, 0, 1.0, 2.0, 1.0)
    rows.softmax(x, x)
    places = torch.zeros(3, dtype=torch.int64)
    rows.rotate(x, x, 2, places, x, x)
    for kind, wide in (
        ("fp32", False),
        ("bf16", False),
        ("fp16", False),
        ("int8", False),
        ("q4_k", True),
        ("q6_k", True),
    ):
        halves = torch.zeros(64, dtype=torch.float16)
        linear.linear(DeviceWeight(kind, 32, 64, wide, 0, bytes_, bytes_, halves), x, x[0], x)
    for cache in range(3):
        seen = attention.Seen(places, places, places, places, places, places, True, 0, 2)
        attending = attention.Attending(4, 2, 16, cache, 0.25, 5.0, x[0])
        attention.store(attending, x, 0, seen, places)
        attention.attend(attending, x, seen, x)
    shape = delta.Recurring(1, 2, 8, 8, 4, True, 1e-5, x, x, x, x[0])
    delta.recur(shape, x, delta.Passages(places, places, torch.zeros(4, 3, dtype=torch.int64), places), x)


JITFunction.run = compiled
launch_all()
