"""What was sent to a hop, kept so that a replacement can be brought to the same state, bit for bit.

Entries keep how their rows were computed (docs/DESIGN.md, Numerics): a chunk is replayed as the very same chunk, decode rows
may be sent together because each is computed by itself. Pure: bytes in, bytes out.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Entry:
    """Rows that were computed together, or decode rows in a row."""

    rows: Rows
    position: int  # of the first row
    tensor: Tensor  # [count, hidden]

    @property
    def count(self) -> int:
        return self.tensor.shape[0]

    def head(self, count: int) -> Entry:
        """Its first rows, which are not copied."""
        if count == self.count:
            return self
        tensor = self.tensor
        data = tensor.data[: len(tensor.data) // self.count * count]
        return Entry(self.rows, self.position, Tensor(tensor.dtype, (count, *tensor.shape[1:]), data))

    def tail(self, count: int) -> Entry:
        """What is left without its first rows, of which it has more. Nothing is copied."""
        if not count:
            return self
        tensor, rest = self.tensor, self.count - count
        data = tensor.data[len(tensor.data) // self.count * count :]
        return Entry(self.rows, self.position + count, Tensor(tensor.dtype, (rest, *tensor.shape[1:]), data))


class History:
    """The rows that crossed one boundary of the chain, positions 0 to `length`."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._positions: list[int] = []  # of the entries' first rows, for bisection
        self.length = 0  # rows
        self.bytes = 0

    def append(self, entry: Entry) -> None:
        """The next rows. Raises ValueError when they do not follow on."""
        if entry.position != self.length:
            raise ValueError(f"rows at {entry.position} do not follow {self.length}")
        self._entries.append(entry)
        self._positions.append(entry.position)
        self.length += entry.count
        self.bytes += len(entry.tensor.data)

    def segments(self, replay_rows: int, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """The rows in replay order: chunks as they were, decode rows joined up to `replay_rows`.

        From the entry that begins at `start` on, to the last that ends at `stop` or before. Rows that are appended meanwhile are
        not among them.
        """
        pending: list[Entry] = []
        for entry in self._entries[bisect_left(self._positions, start) :]:
            if stop is not None and entry.position + entry.count > stop:
                break
            if pending and (entry.rows is Rows.CHUNK or sum(e.count for e in pending) + entry.count > replay_rows):
                yield _joined(pending)
                pending = []
            if entry.rows is Rows.CHUNK:
                yield entry
            else:
                pending.append(entry)
        if pending:
            yield _joined(pending)

    def bytes_at(self, position: int, count: int) -> bytes:
        """The raw bytes of rows `position` to `position + count`. Raises ValueError beyond the end."""
        if position + count > self.length:
            raise ValueError(f"rows up to {position + count} of {self.length}")
        parts: list[memoryview] = []
        for entry in self._entries[bisect_right(self._positions, position) - 1 :]:
            first, last = max(position, entry.position), min(position + count, entry.position + entry.count)
            if first >= last:
                break
            row = len(entry.tensor.data) // entry.count
            parts.append(entry.tensor.data[(first - entry.position) * row : (last - entry.position) * row])
        return b"".join(parts)

    def rows_at(self, position: int, count: int) -> Tensor:
        """A copy of rows `position` to `position + count`. Raises ValueError beyond the end."""
        first = self._entries[0].tensor
        return Tensor(first.dtype, (count, *first.shape[1:]), memoryview(self.bytes_at(position, count)))

    def entries(self) -> Iterator[Entry]:
        """The rows as they were appended."""
        return iter(tuple(self._entries))

    def whole_chunks(self, grid: int) -> int:
        """How many rows, from the first on, were computed as chunks of so many rows."""
        rows = 0
        for entry in self._entries:
            if entry.rows is not Rows.CHUNK or entry.count != grid:
                break
            rows += grid
        return rows

    def ends_at(self, rows: int) -> bool:
        """Whether some entry ends with so many rows."""
        return rows == self.length > 0 or rows in self._positions[1:]

    def head(self, rows: int) -> History:
        """The first rows; their entries are shared, the last of them perhaps in part. Raises ValueError beyond the end."""
        found = History()
        for entry in self._entries:
            if found.length >= rows:
                break
            found.append(entry.head(min(entry.count, rows - found.length)))
        if found.length != rows:
            raise ValueError(f"the first {rows} rows of {self!r}")
        return found

    def __repr__(self) -> str:
        return f"<history of {self.length} rows, {self.bytes} bytes>"


def joined(*tensors: Tensor) -> Tensor:
    """Rows [n, hidden] of one kind, one after the other."""
    first = tensors[0]
    if len(tensors) == 1:
        return first
    count = sum(each.shape[0] for each in tensors)
    return Tensor(first.dtype, (count, *first.shape[1:]), memoryview(b"".join(each.data for each in tensors)))


def _joined(entries: list[Entry]) -> Entry:
    first = entries[0]
    return Entry(first.rows, first.position, joined(*(entry.tensor for entry in entries)))
