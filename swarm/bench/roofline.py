"""What memory allows: decoding one token reads every weight once, so read bandwidth bounds tokens a second.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model" (2009).
"""

from __future__ import annotations

import time

import torch

READ_BYTES = 1 << 30
READS = 5


def read_bandwidth() -> float:
    """Bytes a second: the best of five reads of 1 GiB by all threads that torch computes with."""
    words = torch.ones(READ_BYTES // 4, dtype=torch.float32)  # written, so that its pages exist
    best = float("inf")
    for _ in range(READS):
        began = time.perf_counter()
        words.sum()
        best = min(best, time.perf_counter() - began)
    return READ_BYTES / best
