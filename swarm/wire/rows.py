"""What messages and receipts both say of rows: how they are computed, and how long the id of their session is."""

from __future__ import annotations

from enum import IntEnum

SESSION_ID_BYTES = 16


class Rows(IntEnum):
    """How rows are computed, which decides their bits in native numerics (docs/DESIGN.md), and elsewhere only who waits."""

    CHUNK = 1  # a prompt chunk: one call with exactly these rows
    DECODE = 2  # each row by itself, in tiles
