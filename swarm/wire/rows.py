"""What messages and receipts both say of rows: how they are computed, and how long the id of their session is."""

from __future__ import annotations

from enum import IntEnum

SESSION_ID_BYTES = 16


class Rows(IntEnum):
    """How rows are computed, which decides their bits (docs/DESIGN.md, Numerics)."""

    CHUNK = 1  # a prompt chunk: one call with exactly these rows
    DECODE = 2  # each row by itself, in tiles
