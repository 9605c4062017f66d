"""What decides bits: precisions and plans of them, the thread count, the kernel path, and the name of a numerics class.

Two peers of one numerics class compute the same bits from the same bytes. Knows nothing of layers or of the network.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch

from swarm.errors import UsageFault
from swarm.kernels import GROUP, Library, library
from swarm.precision import AS_STORED, FLOATS, PORTABLE, Plan, any_cut

CHUNK_ROWS = 128  # the grid of absolute positions on which chunk boundaries lie
MAX_CLASS_BYTES = 150  # a class stands in every record
ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # environment that changes kernels
SCALE_BITS = 16  # of a group of integers
STEP_BYTES = 4  # of a head of a position in a cache of integers
KernelPath = Literal["onednn", "plain", "portable"]
NUMERICS = ("native", "portable")
_settled: int | None = None


@dataclass(frozen=True, slots=True)
class Precision:
    """How weights, hidden states and caches are stored, and the shape in which decode rows are computed."""

    name: str
    dtype: torch.dtype  # of caches, of rows between layers, and of weights unless these are something else
    tile: int  # a decode row's bits are those it has in a call of this many rows
    portable: bool = False  # by kernels of our own, within a layer in fp32
    weights: str = ""  # the portable kernels' kind, such as int8, integers in groups with a scale; empty: as rows are
    head: str = ""  # likewise, of the layer that gives logits
    stored: bool = False  # weights are what the model's files hold, where kernels take that; else of `dtype`
    wide: bool = False  # rows become integers of 16 bits for weights that are integers, and not of 8
    cache: str = ""  # what keys and values are; empty: as rows are

    @property
    def inner(self) -> torch.dtype:
        """Of rows within a layer."""
        return torch.float32 if self.portable else self.dtype

    @property
    def rows(self) -> str:
        """What rows between layers are, as they travel."""
        return "fp32" if self.dtype == torch.float32 else "bf16"

    @property
    def cached(self) -> str:
        """What keys and values are: fp32, bf16 or int8."""
        return self.cache or self.rows

    @property
    def cache_dtype(self) -> torch.dtype:
        return CACHE_DTYPES[self.cached]

    def cached_width(self, head_dim: int) -> int:
        """Numbers of `cache_dtype` that a head of a position takes in a cache of keys, and as many in one of values."""
        return head_dim + (STEP_BYTES if self.cached == "int8" else 0)

    @property
    def kind(self) -> str:
        """The portable kernels' kind of weights."""
        return self.weights or self.rows

    @property
    def weight_dtype(self) -> torch.dtype:
        """Of weights, and of those that integers are made of."""
        return KINDS[self.weights] if self.weights else self.dtype

    def bytes_of(self, numbers: int) -> int:
        """That so many weights take."""
        bits = {"int8": 8, "int4": 4}.get(self.weights)
        if bits is None:
            return numbers * self.weight_dtype.itemsize
        return -(-numbers * (bits * GROUP + SCALE_BITS) // (8 * GROUP))

    @property
    def floats(self) -> Precision:
        """The same with weights that are floats, for what few bits would spoil."""
        return self if self.kind in FLOATS else replace(self, weights="", head="")

    @property
    def logits(self) -> Precision:
        """The same for the layer that gives logits."""
        return replace(self, weights=self.head)


KINDS = {  # of weights, and what they are read as
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.bfloat16,
    "int4": torch.bfloat16,
}
CACHE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
PRECISIONS: dict[str, Precision] = {
    "fp32": Precision("fp32", torch.float32, 16),
    "bf16": Precision("bf16", torch.bfloat16, 16),
}
PORTABLE_ONLY: dict[str, Precision] = {
    "fp16": Precision("fp16", torch.bfloat16, 1, weights="fp16", head="fp16"),
    "int8": Precision("int8", torch.bfloat16, 1, weights="int8", head="int8"),
    "int4": Precision("int4", torch.bfloat16, 1, weights="int4", head="int8"),
    AS_STORED: Precision(AS_STORED, torch.bfloat16, 1, stored=True),
}


@dataclass(frozen=True, slots=True)
class PrecisionPlan:
    """The precisions of a whole model, by layer, as they are computed here."""

    plan: Plan
    portable: bool

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def between(self) -> Precision:
        """Of what is no layer's own: rows between layers, and caches. It has the plan's name."""
        rows = PRECISIONS[self.plan.rows]
        return replace(rows, name=self.plan.name, portable=self.portable, cache=self.plan.cache)

    def of(self, layer: int) -> Precision:
        return self._with(self.plan.of(layer))

    @property
    def last(self) -> Precision:
        """Of the last layer, and of what follows it."""
        return self._with(self.plan.last)

    def _with(self, name: str) -> Precision:
        """A precision, with rows as the plan has them."""
        own, dtype = precision_known(name), PRECISIONS[self.plan.rows].dtype
        if dtype != own.dtype and own.kind in FLOATS and not own.stored:
            own = replace(own, weights=own.kind, head=own.kind)  # whatever rows are
        return replace(own, dtype=dtype, portable=self.portable, wide=self.plan.activations == "int16")


def plan_named(name: str, numerics: str, layer_count: int) -> PrecisionPlan:
    """The plan of that name for a model of so many layers. Raises UsageFault naming what is wrong with it, or that only
    portable kernels compute so."""
    plan = Plan.parse(name).over(layer_count)
    if len(plan.parts) == 1:
        precision_named(plan.parts[0][1], numerics)
        if plan.only_portable and numerics != "portable":
            raise UsageFault(f"--precision {name}: only --numerics portable computes so")
    elif numerics != "portable":
        raise UsageFault(
            f"--precision {name}: several precisions in one model, which only --numerics portable computes"
        )
    return PrecisionPlan(plan, numerics == "portable")


def precision_named(name: str, numerics: str = "native") -> Precision:
    """The precision of that name, computed natively or by portable kernels. Raises UsageFault naming those that exist."""
    if numerics not in NUMERICS:
        raise UsageFault(f"unknown numerics {numerics!r}; choose one of {', '.join(NUMERICS)}")
    found = precision_known(name)
    if name in PORTABLE_ONLY and numerics != "portable":
        raise UsageFault(f"--precision {name}: only --numerics portable computes so")
    return replace(found, portable=numerics == "portable")


def only_portable(name: str, layer_count: int) -> bool:
    """Whether torch's kernels compute no model of so many layers in the plan of that name. Raises UsageFault."""
    return Plan.parse(name).over(layer_count).only_portable


def precision_known(name: str) -> Precision:
    """The precision of that name, whoever computes in it. Raises UsageFault naming those that exist."""
    known = PRECISIONS | PORTABLE_ONLY
    if name not in known:
        raise UsageFault(f"unknown precision {name!r}; choose one of {', '.join(known)}")
    return known[name]


def arithmetic_of(numerics: str | None) -> str:
    """Which of NUMERICS a numerics class is of; native where there is none."""
    return "portable" if any_cut(numerics) else "native"


def portable_kernels() -> Library:
    """Raises UsageFault where they were not built."""
    kernels = library()
    if kernels is None:
        raise UsageFault(
            "--numerics portable: its kernels are not there: they are compiled when swarm is installed, by a C compiler; "
            "install one and swarm again, or use --numerics native"
        )
    return kernels


def settle_threads(count: int | None = None) -> int:
    """Fix torch's intra-op thread count, once a process; returns it. None: leave torch's own choice.

    Raises UsageFault when another count was settled before, since results computed so far belong to that one.
    """
    global _settled
    if _settled is None:
        if count is not None:
            if count < 1:
                raise UsageFault(f"--threads {count}: at least one thread is needed")
            torch.set_num_threads(count)
        if (kernels := library()) is not None:
            kernels.set_threads(torch.get_num_threads())
        _settled = torch.get_num_threads()
    elif count is not None and count != _settled:
        raise UsageFault(f"--threads {count}: this process computes with {_settled} threads already")
    return _settled


def kernel_path(precision: Precision, device: str | torch.device = "cpu") -> KernelPath:
    """Which kernels linear layers take: "onednn" (weights packed once, CPU) or "plain" (torch's own choice)."""
    return _cpu_path(precision.dtype) if torch.device(device).type == "cpu" else "plain"


@lru_cache(maxsize=len(PRECISIONS))
def _cpu_path(dtype: torch.dtype) -> KernelPath:
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return "plain"  # elsewhere oneDNN hands over to other libraries, whose bits nobody has measured here
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(torch.zeros(64, 64, dtype=dtype), 16)
        torch.ops.mkldnn._linear_pointwise(torch.zeros(2, 64, dtype=dtype), weight, None, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError):
        return "plain"  # torch was built without oneDNN, or this processor lacks instructions for the precision
    return "onednn"


def numerics_class(precision: Precision, device: str | torch.device = "cpu") -> str:
    """Everything that decides bits, in at most MAX_CLASS_BYTES of ASCII.

    The thread count stands in it on CPU although oneDNN's linear layers gave the same bits at 1 to 16 threads: plain
    ones do not, and attention over a chunk chooses its kernels by it.
    """
    if precision.portable:
        return f"{PORTABLE}:{precision.name}"
    device = torch.device(device)
    version = torch.__version__.split("+")[0]
    parts = [precision.name, device.type]
    if device.type == "cpu":
        parts += [_cpu_kind(), f"t{torch.get_num_threads()}", os.environ.get("MKL_CBWR", "-").lower()]
        parts += [os.environ[name].lower() for name in ISA_LIMITS if name in os.environ]
    else:
        parts += [torch.cuda.get_device_name(device).replace(" ", "-"), f"cuda{torch.version.cuda}"]
    parts += [f"torch{version}", f"{kernel_path(precision, device)}{precision.tile}"]
    return "/".join(parts).encode("ascii", "replace").decode()[:MAX_CLASS_BYTES]


def _cpu_kind() -> str:
    dot = "+bf16" if torch.cpu._is_avx512_bf16_supported() else ""
    matrix = "+amx" if torch.cpu._is_amx_tile_supported() else ""
    return f"{torch.backends.cpu.get_cpu_capability().lower()}{dot}{matrix}"
