"""The compiled kernels, by ctypes: addresses and sizes go in, nothing is copied. docs/NUMERICS.md says what each computes.

Every number that goes in or comes out is fp32 unless it says otherwise. The library has one pool of threads in a process;
whoever finds it busy computes alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_uint64,
    c_void_p,
    create_string_buffer,
)
from functools import cache
from pathlib import Path

from swarm.errors import UsageFault
from swarm.kernels.structures import (
    CAttends,
    CAttention,
    CDelta,
    CExpert,
    CExperts,
    CGiven,
    COperation,
    CParted,
    CPassage,
    CPassing,
    CProgram,
    CRecurs,
    CTurning,
)

FILE = Path(__file__).with_name("portable" + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so"))
PATH_VARIABLE = "SWARM_KERNELS"  # environment: which instruction set computes, for comparisons
FILE_VARIABLE = "SWARM_KERNELS_FILE"  # environment: a library in the place of FILE, built elsewhere, for comparisons
GROUP = 32  # inputs that share a scale
LANES = 16  # outputs of a tile
MAX_THREADS = 64
WEIGHTS = (  # kinds, by their numbers in portable.h
    *("fp32", "bf16", "fp16", "int8", "int4", "int4+min", "int5", "int5+min"),
    *("q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "int4+zero", "int8+shared"),
)
SHARING = ("int4+zero", "int8+shared")  # of which 2^shift groups share a scale
ALL_GROUPS = 31  # a shift
BLOCKS = {  # llama.cpp's types, and others that are called as here -> kinds of weights that hold them exactly
    **{kind: kind for kind in SHARING},
    "Q8_0": "int8",
    "Q4_0": "int4",
    "Q4_1": "int4+min",
    "Q5_0": "int5",
    "Q5_1": "int5+min",
    "Q4_K": "q4_k",
    "Q5_K": "q5_k",
    "Q6_K": "q6_k",
    "IQ4_NL": "iq4_nl",
    "IQ4_XS": "iq4_xs",
}
DEQUANTISED = frozenset(BLOCKS) - frozenset(SHARING)  # which kernels make floats of
CACHES = ("fp32", "bf16", "int8")
ACTIVATIONS = ("silu", "gelu", "gelu_pytorch_tanh", "relu", "sigmoid", "tanh", "exp", "softplus")


class CWeight(Structure):
    """`struct weight` of portable.h."""

    _fields_ = (
        *((name, c_int32) for name in ("kind", "outputs", "inputs", "groups", "tiles", "shift", "wide")),
        *((name, c_void_p) for name in ("numbers", "scales", "minima")),
    )


class CSeen(Structure):
    """`struct seen` of portable.h: the keys and values that one query row sees."""

    _fields_ = (
        ("keys", c_void_p),
        ("values", c_void_p),
        *((name, c_int64) for name in ("head_stride", "row_stride", "tiled", "first", "stop")),
        ("biases", c_void_p),
    )


RECORDS = (
    *(CWeight, CSeen, CAttention, CDelta, CPassage, COperation, CAttends, CRecurs, CParted, CExpert),
    *(CExperts, CProgram, CTurning, CGiven, CPassing),
)


class Library:
    """The functions of one library file."""

    def __init__(self, file: Path) -> None:
        """Raises OSError where it cannot be loaded here, AttributeError where it is of another version."""
        self._c = c = ctypes.CDLL(str(file))
        c.swarm_record_bytes.argtypes, c.swarm_record_bytes.restype = [c_int], c_int64
        for number, record in enumerate(RECORDS):
            if c.swarm_record_bytes(number) != ctypes.sizeof(record):
                raise AttributeError(f"a {record.__name__} has {c.swarm_record_bytes(number)} bytes there")
        c.swarm_paths.argtypes = [c_char_p, c_int]
        c.swarm_choose_path.argtypes = [c_char_p]
        c.swarm_set_threads.argtypes, c.swarm_set_threads.restype = [c_int], None
        c.swarm_packed_bytes.argtypes, c.swarm_packed_bytes.restype = [c_int, c_int, c_int], c_int64
        c.swarm_scale_bytes.argtypes, c.swarm_scale_bytes.restype = [c_int] * 4, c_int64
        c.swarm_has_minima.argtypes = [c_int]
        c.swarm_pack_floats.argtypes, c.swarm_pack_floats.restype = [c_int] * 5 + [c_void_p] * 2, None
        c.swarm_pack_rounded.argtypes = [POINTER(CWeight), *[c_int] * 4, c_void_p, c_int64]
        c.swarm_pack_blocks.argtypes = [POINTER(CWeight), c_int, c_int, c_void_p, c_int64]
        c.swarm_linear.argtypes = [POINTER(CWeight), c_void_p, c_int64, c_int, c_void_p, c_void_p, c_int64]
        c.swarm_norm.argtypes = [c_void_p, c_int64, c_int, c_int, c_void_p, c_void_p, c_float, c_int, c_void_p, c_int64]
        c.swarm_norm.restype = None
        c.swarm_activation.argtypes = [c_void_p, c_int64, *[c_int] * 4, c_float, c_float, c_float, c_void_p]
        c.swarm_activation.restype = None
        c.swarm_softmax.argtypes, c.swarm_softmax.restype = [c_void_p, c_int64, c_int, c_int, c_void_p], None
        c.swarm_rotate.argtypes, c.swarm_rotate.restype = (
            [c_void_p, c_int64, c_int, c_int, c_int, c_void_p, c_void_p],
            None,
        )
        c.swarm_attention.argtypes = [POINTER(CAttention), c_void_p, c_int64, c_int, POINTER(CSeen), c_void_p]
        c.swarm_delta.argtypes = [POINTER(CDelta), c_void_p, c_int64, POINTER(CPassage), c_int, c_void_p, c_int64]
        c.swarm_turns.argtypes, c.swarm_turns.restype = [c_void_p] * 2 + [c_int64] * 2 + [c_void_p] * 2, None
        c.swarm_read.argtypes, c.swarm_read.restype = [c_void_p, c_int64], c_uint64
        c.swarm_program_room.argtypes, c.swarm_program_room.restype = [POINTER(CPassing)], c_int64
        c.swarm_pass.argtypes, c.swarm_pass.restype = [POINTER(CPassing), c_int64], None
        self.path = self.paths()[0]
        self.choose(self.path)

    def paths(self) -> tuple[str, ...]:
        """Names of the instruction sets that run here, best first."""
        names = create_string_buffer(128)
        self._c.swarm_paths(names, len(names))
        return tuple(names.value.decode().split())

    def choose(self, path: str) -> None:
        """Compute by this path from now on; the bits are the same. Raises UsageFault."""
        if self._c.swarm_choose_path(path.encode()):
            raise UsageFault(f"kernels: there is no path {path!r} on this machine; there are {', '.join(self.paths())}")
        self.path = path

    @property
    def threads(self) -> int:
        return int(self._c.swarm_threads())

    def set_threads(self, count: int) -> None:
        """How many threads compute, 1 to MAX_THREADS. The bits do not depend on it."""
        self._c.swarm_set_threads(count)

    def read(self, numbers: int, count: int) -> int:
        """The sum, modulo 2^64, of so many 64-bit numbers, a multiple of 32, from an address that is a multiple of 64."""
        return int(self._c.swarm_read(numbers, count))

    def packed_bytes(self, kind: str, outputs: int, inputs: int) -> int:
        """Of the numbers of a packed weight, without scales."""
        return int(self._c.swarm_packed_bytes(WEIGHTS.index(kind), outputs, inputs))

    def scale_bytes(self, kind: str, shift: int, outputs: int, inputs: int) -> int:
        """Of its scales; none of floats."""
        return int(self._c.swarm_scale_bytes(WEIGHTS.index(kind), shift, outputs, inputs))

    def has_minima(self, kind: str) -> bool:
        """Whether these lie apart from its scales, as binary16 for each output and group."""
        return bool(self._c.swarm_has_minima(WEIGHTS.index(kind)))

    def pack_floats(self, kind: str, first: int, count: int, inputs: int, columns: int, rows: int, packed: int) -> None:
        """Rows [count, columns] of a kind's own numbers, as outputs from `first` on, into packed zeros of so many inputs."""
        self._c.swarm_pack_floats(WEIGHTS.index(kind), first, count, inputs, columns, rows, packed)

    def pack_rounded(
        self, weight: CWeight, kind: str, first: int, count: int, columns: int, rows: int, row_bytes: int
    ) -> None:
        """Rows [count, row_bytes] of `columns` numbers, floats or DEQUANTISED blocks, as outputs from `first` on, into zeros.

        Floats are rounded to integers; blocks to floats, or to bf16 and then to integers. Raises ValueError.
        """
        number = WEIGHTS.index(kind)
        if self._c.swarm_pack_rounded(byref(weight), number, first, count, columns, rows, row_bytes):
            made = WEIGHTS[weight.kind]
            raise ValueError(f"rows of {row_bytes} bytes, {columns} numbers of {kind}, do not become {made}")

    def pack_blocks(self, weight: CWeight, first: int, count: int, rows: int, row_bytes: int) -> None:
        """Rows [count, row_bytes] of blocks, see BLOCKS, as outputs from `first` on, into zeros. Raises ValueError."""
        if self._c.swarm_pack_blocks(byref(weight), first, count, rows, row_bytes):
            raise ValueError(
                f"rows of {row_bytes} bytes: no blocks of {WEIGHTS[weight.kind]} for {weight.groups} groups"
            )

    def linear(
        self, weight: CWeight, rows: int, stride: int, count: int, bias: int | None, out: int, out_stride: int
    ) -> None:
        """[count, inputs] -> [count, outputs]; strides in numbers. Raises MemoryError."""
        if self._c.swarm_linear(byref(weight), rows, stride, count, bias, out, out_stride):
            raise MemoryError(f"room for {count} rows of {weight.inputs} numbers")

    def norm(
        self,
        rows: int,
        stride: int,
        count: int,
        width: int,
        weight: int | None,
        bias: int | None,
        eps: float,
        centred: bool,
        out: int,
        out_stride: int,
    ) -> None:
        """By the root mean square, or `centred`, as LayerNorm."""
        self._c.swarm_norm(rows, stride, count, width, weight, bias, eps, centred, out, out_stride)

    def activation(
        self,
        rows: int,
        stride: int,
        count: int,
        width: int,
        kind: str,
        out: int,
        *,
        gated: bool,
        limit: float = 0.0,
        slope: float = 0.0,
        offset: float = 0.0,
    ) -> None:
        """[count, width], or gates and what they multiply, [count, 2 * width], -> [count, width]; see path.h."""
        self._c.swarm_activation(rows, stride, count, width, ACTIVATIONS.index(kind), gated, limit, slope, offset, out)

    def softmax(self, rows: int, stride: int, count: int, width: int, out: int) -> None:
        self._c.swarm_softmax(rows, stride, count, width, out)

    def rotate(self, rows: int, stride: int, count: int, heads: int, head_dim: int, cos: int, sin: int) -> None:
        """Turn `heads` heads at the beginning of each row, in place, by [count, head_dim / 2] cosines and sines."""
        self._c.swarm_rotate(rows, stride, count, heads, head_dim, cos, sin)

    def attention(self, attention: CAttention, queries: int, stride: int, seen: ctypes.Array[CSeen], out: int) -> None:
        """[rows, heads * head_dim] of each row's answer. Raises MemoryError."""
        if self._c.swarm_attention(byref(attention), queries, stride, len(seen), seen, out):
            raise MemoryError(f"room for attention of {len(seen)} rows")

    def delta(
        self,
        delta: CDelta,
        rows: int,
        stride: int,
        passages: ctypes.Array[CPassage],
        out: int,
        out_stride: int,
    ) -> None:
        """Rows as a layer's projection gives them, through states, -> [rows, value_heads * value_dim]. Raises MemoryError."""
        if self._c.swarm_delta(byref(delta), rows, stride, passages, len(passages), out, out_stride):
            raise MemoryError(f"room for rows of {len(passages)} sessions through the delta rule")

    def turns(self, angles: int, factors: int, positions: int, half: int, cos: int, sin: int) -> None:
        """fp64 angles [positions, half] and factors [half] -> cosines and sines times these, [positions, half]."""
        self._c.swarm_turns(angles, factors, positions, half, cos, sin)

    def program_room(self, passing: CPassing) -> int:
        """Bytes that `passing.room` must have, with the threads and the path of now."""
        return int(self._c.swarm_program_room(byref(passing)))

    def run(self, passing: CPassing, products: int) -> None:
        """Rows through a program, of which a linear layer takes so many products of numbers for a row."""
        self._c.swarm_pass(byref(passing), products)


@cache
def library() -> Library | None:
    """The kernels, or None where they were not built or cannot be loaded.

    Raises UsageFault for a path that is not here, for kernels of another version, and for a file that the environment names
    and that is no library of kernels.
    """
    kernels = _named(os.environ[FILE_VARIABLE]) if FILE_VARIABLE in os.environ else _installed()
    if kernels is not None and PATH_VARIABLE in os.environ:
        kernels.choose(os.environ[PATH_VARIABLE])
    return kernels


def _installed() -> Library | None:
    try:
        return Library(FILE)
    except OSError:
        return None
    except AttributeError as error:
        raise UsageFault(
            f"{FILE}: kernels of another version; install swarm again, which compiles them: {error}"
        ) from error


def _named(file: str) -> Library:
    try:
        return Library(Path(file).resolve())  # else the loader would look for a bare name elsewhere
    except OSError as error:
        raise UsageFault(f"{FILE_VARIABLE}={file}: it cannot be loaded: {error}") from error
    except AttributeError as error:
        raise UsageFault(f"{FILE_VARIABLE}={file}: no library of this version's kernels: {error}") from error
