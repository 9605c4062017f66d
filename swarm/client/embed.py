"""One vector of a text: its tokens, their rows through a session, and what a model's own files make of these.

Knows nothing of chains. A decoder takes a text in chunks of the grid, an encoder all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.client.generate import Session
from swarm.client.heads import Heads
from swarm.engine import chunk_rows
from swarm.engine.backends import Sizes
from swarm.engine.pooling import Pooling
from swarm.errors import PromptTooLong, UsageFault
from swarm.text.tokenizer import Text
from swarm.wire.rows import Rows
from swarm.wire.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as a model takes it."""

    ids: tuple[int, ...]
    whole: int  # tokens of the text

    @property
    def cut(self) -> bool:
        return self.whole > len(self.ids)


def encode_text(text: Text, pooling: Pooling, written: str) -> Encoded:
    """Ids of a text, with what the model's files put before and the tokenizer around it, cut as they say. Raises UsageFault."""
    written = pooling.prompt + written
    written = written.lower() if pooling.lower_case else written
    ids = text.encode(written, add_special=True)
    most = pooling.most_tokens
    if most is None or len(ids) <= most:
        return Encoded(tuple(ids), len(ids))
    tokenizer = text.tokenizer
    inner = tokenizer.encode(written, add_special_tokens=False)
    inner.truncate(max(0, most - tokenizer.num_special_tokens_to_add(False)))
    return Encoded(tuple(tokenizer.post_process(inner, None, True).ids), len(ids))


def text_rows(count: int, spec: Sizes) -> int:
    """Rows of a session that takes a text of so many tokens. Raises UsageFault for one that does not go through.

    One more than there are, as in a session that ends by its length: a worker cannot tell one from an audit of it.
    """
    if not count:
        raise UsageFault("an empty text has no vector")
    most = spec.max_positions if spec.both_ways else spec.max_positions - 1
    if count > most:
        raise PromptTooLong(f"the text has {count} tokens; the model takes {most}", count, most)
    return min(spec.max_positions, count + 1)


async def embed_ids(session: Session, heads: Heads, ids: Sequence[int], pooling: Pooling) -> list[float]:
    """A text's vector, through a new session."""
    outputs: list[Tensor] = []
    grid = chunk_rows(heads.head.spec)
    for start in range(0, len(ids), grid):
        rows = await session.step(Rows.CHUNK, await heads.embed(ids[start : start + grid], start))
        if pooling.last_only:
            outputs.clear()
        outputs.append(rows)
    return await heads.vector(outputs, pooling)
