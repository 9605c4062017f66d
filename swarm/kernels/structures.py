"""The structures of a program of operations, as portable.h lays them out. Tests compare their sizes with the library's."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_int64, c_void_p

OPERATIONS = (  # by their numbers in portable.h
    "read",
    "norm",
    "rotate",
    "activate",
    "copy",
    "add",
    "multiply",
    "scale",
    "round",
    "route",
    "linear",
    "attend",
    "experts",
    "recur",
)
TOGETHER = ("linear", "attend", "experts", "recur")  # of which threads do parts
MAX_REGISTERS = 16


class CAttention(Structure):
    """`struct attention`."""

    _fields_ = (
        *((name, c_int32) for name in ("heads", "kv_heads", "head_dim", "cache")),
        ("scale", c_float),
        ("softcap", c_float),
        ("sinks", c_void_p),
    )


class CDelta(Structure):
    """`struct delta`."""

    _fields_ = (
        *((name, c_int32) for name in ("key_heads", "value_heads", "key_dim", "value_dim", "taps", "window")),
        ("norm_eps", c_float),
        *((name, c_void_p) for name in ("weights", "rates", "step_bias", "norm")),
    )


class CPassage(Structure):
    """`struct passage`: rows of one session that pass through its state, which lies at the first four."""

    _fields_ = (
        *((name, c_void_p) for name in ("window", "memory", "next_window", "next_memory")),
        ("first", c_int64),
        ("count", c_int64),
    )


class COperation(Structure):
    """`struct operation`."""

    _fields_ = (
        *(
            (name, c_int32)
            for name in (
                *("kind", "from_", "from_at", "other", "other_at", "to", "to_at"),
                *("width", "heads", "number", "option"),
            )
        ),
        *((name, c_float) for name in ("a", "b", "c")),
        *((name, c_void_p) for name in ("weight", "bias", "more")),
    )


class CAttends(Structure):
    """`struct attends`."""

    _fields_ = (("attention", CAttention), ("layer", c_int32), ("stores", c_int32), ("window", c_int64))


class CRecurs(Structure):
    """`struct recurs`."""

    _fields_ = (("delta", CDelta), ("layer", c_int64))


class CParted(Structure):
    """`struct parted`."""

    _fields_ = (("parts", c_void_p), ("bias", c_void_p), ("count", c_int64))


class CExpert(Structure):
    """`struct expert`."""

    _fields_ = (("up", CParted), ("down", CParted))


class CExperts(Structure):
    """`struct experts`."""

    _fields_ = (
        *((name, c_int32) for name in ("count", "used", "hidden", "inner", "sum_to_one", "activation", "gated")),
        *((name, c_float) for name in ("limit", "slope", "offset")),
        ("scales", c_void_p),
        ("experts", c_void_p),
    )


class CProgram(Structure):
    """`struct program`."""

    _fields_ = (
        *((name, c_void_p) for name in ("operations", "widths", "together")),
        ("count", c_int32),
        ("registers", c_int32),
    )


class CTurning(Structure):
    """`struct turning`."""

    _fields_ = (("cos", c_void_p), ("sin", c_void_p), ("half", c_int64))


class CGiven(Structure):
    """`struct given`."""

    _fields_ = (("rows", c_void_p), ("ld_rows", c_int64))


class CPassing(Structure):
    """`struct passing`."""

    _fields_ = (
        *((name, c_void_p) for name in ("program", "rows", "out")),
        ("ld_rows", c_int64),
        ("count", c_int32),
        ("kind", c_int32),
        *((name, c_void_p) for name in ("positions", "sessions", "caches", "states", "biases")),
        *((name, c_void_p) for name in ("turnings", "inputs", "room")),
        *((name, c_int64) for name in ("scratch", "pairs", "threads")),
    )
