"""Room for packed weights, in pages as large as the system has: whoever fills gigabytes waits for each page."""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

HUGE_PAGE = 2 << 20  # bytes; less than one is had from the allocator


def zeros(size: int) -> Tensor:
    """So many bytes, all zero, that go back to the system with the tensor. A page that nobody writes to takes no memory."""
    if size < HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(size, dtype=torch.uint8)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=torch.uint8)
