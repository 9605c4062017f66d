"""Where the tensors of layers come from: a checkpoint whose bytes are verified, or a seed."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Container, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Protocol
from zlib import crc32

import torch
from torch import Tensor

from swarm.checkpoint.formats import StoredBlocks
from swarm.checkpoint.manifest import HASH_THREADS, Manifest, Progress
from swarm.checkpoint.stored_tensors import StoredTensors, Table
from swarm.model.tensor_names import Shape

AHEAD_BYTES = 256 << 20  # of stored tensors that are read before a layer asks for them
_RANDOM_ELEMENTS = 1 << 20  # drawn once; random weights repeat them, since only speed is measured with those


class Source(Protocol):
    """Where tensors come from."""

    def tensor(self, name: str, shape: Shape) -> Tensor:
        """A tensor of floats of that shape, not to be written to."""

    def as_stored(self, name: str, shape: Shape, kinds: Container[str]) -> StoredBlocks | Tensor | None:
        """A matrix as its file holds it, in floats or in blocks of one of these kinds; None where floats have to be made from
        what is stored."""

    def table(self, name: str, shape: Shape, dtype: torch.dtype) -> Table:
        """The rows of such a tensor, of which only some will be wanted."""

    def release(self) -> None:
        """Nobody holds what was read so far, but for tables."""


class VerifiedSource:
    """Tensors of a checkpoint, each checked against the manifest of the model when it is read.

    All shapes are compared with the files before the first is read: what a config claims is not believed, nor allocated.
    `with source:` reads and checks the next ones while layers are made of those before, in the order of `shapes`.
    """

    def __init__(
        self, checkpoint: StoredTensors, manifest: Manifest, shapes: Mapping[str, Shape], progress: Progress | None
    ) -> None:
        self.checkpoint = checkpoint
        self.manifest = manifest
        stored = {part: size for name, shape in shapes.items() for part, size in checkpoint.check(name, shape).items()}
        self.total = sum(stored.values())  # bytes, for progress
        self.progress = progress
        self._verified: set[str] = set()  # stored tensors of `shapes`: several may be made from one
        self._done = 0
        self._read: set[str] = set()  # since pages were let go of
        self._next = deque(stored.items())
        self._ahead: dict[str, Future[None]] = {}  # at most AHEAD_BYTES of them, or one
        self._ahead_bytes = 0
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> VerifiedSource:
        self._threads = ThreadPoolExecutor(min(HASH_THREADS, os.cpu_count() or 1), "verify")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        self._threads = None
        self._ahead.clear()

    def tensor(self, name: str, shape: Shape) -> Tensor:
        self._verify(name, shape)
        return self.checkpoint.tensor(name, shape)

    def as_stored(self, name: str, shape: Shape, kinds: Container[str]) -> StoredBlocks | Tensor | None:
        self._verify(name, shape)
        return self.checkpoint.as_stored(name, shape, kinds)

    def table(self, name: str, shape: Shape, dtype: torch.dtype) -> Table:
        self._verify(name, shape)
        return self.checkpoint.table(name, shape, dtype)

    def release(self) -> None:
        """What was read so far lies in layers now, and need not be in memory in its file as well."""
        for stored in self._read:
            self.checkpoint.release(stored)
        self._read.clear()

    def _verify(self, name: str, shape: Shape) -> None:
        for stored, size in self.checkpoint.check(name, shape).items():
            self._read.add(stored)
            if stored not in self._verified:
                self._verify_ahead()
                found = self._ahead.pop(stored, None)
                if found is None:
                    self.manifest.verify(self.checkpoint, stored)
                else:
                    self._ahead_bytes -= size
                    found.result()
                self._verified.add(stored)
                self._done += size
                if self.progress is not None:
                    self.progress(self._done, self.total)

    def _verify_ahead(self) -> None:
        while self._threads is not None and self._next and self._ahead_bytes < AHEAD_BYTES:
            stored, size = self._next.popleft()
            if stored not in self._verified:
                self._ahead[stored] = self._threads.submit(self.manifest.verify, self.checkpoint, stored)
                self._ahead_bytes += size


@lru_cache(2)
def _draws(seed: int) -> Tensor:
    """What random weights are made of; nobody writes to it."""
    return torch.randn(_RANDOM_ELEMENTS, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


class RandomSource:
    """Random weights, scaled so that rows neither vanish nor explode. For measurements."""

    def __init__(self, seed: int) -> None:
        self._draws = _draws(seed)

    def tensor(self, name: str, shape: Shape) -> Tensor:
        size, first = math.prod(shape), crc32(name.encode()) % _RANDOM_ELEMENTS  # no two experts are alike
        times = -(-(first + size) // _RANDOM_ELEMENTS)
        draws = (
            self._draws[first : first + size].clone() if times == 1 else self._draws.repeat(times)[first : first + size]
        )
        draws = draws.view(shape)
        if len(shape) > 1:
            return draws.mul_(shape[-1] ** -0.5)
        # Logarithms of how fast a state fades: one that lasts for rows, since of one row alone little may be left but rounding
        return draws.mul_(0.1).add_(-2 if name.endswith("A_log") else 1)

    def as_stored(self, name: str, shape: Shape, kinds: Container[str]) -> Tensor:
        return self.tensor(name, shape)

    def table(self, name: str, shape: Shape, dtype: torch.dtype) -> Table:
        return Table.of(self.tensor(name, shape))

    def release(self) -> None:
        pass
