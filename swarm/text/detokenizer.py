"""Token ids to text one by one, at a cost per token that does not grow. Knows nothing of stops or of chat.

Joining what `push` and `finish` give is what decoding all ids at once gives, without special tokens. Two kinds of decoder
are taken apart into the bytes of each token, so that an incremental UTF-8 decoder does the rest: byte-level BPE (GPT-2 and
most since) and what SentencePiece models convert to (a mark for spaces, bytes as fallback). There is one difference, on
purpose: where fallback bytes are no UTF-8, only those that are wrong become U+FFFD, not the whole run of bytes around
them, which may have been given out long before. Every other decoder is asked again for a window of the last tokens.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer

CONTEXT_TOKENS = 8  # kept before the tokens whose text is not out yet; decoders look back one token
MAX_PENDING_TOKENS = 32  # that end in U+FFFD, perhaps the beginning of a character; then it is taken for real
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_FALLBACK_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Detokenizer(Protocol):
    """One stream of text."""

    def push(self, token_id: int) -> str:
        """The text that is certain with this token; may be empty, or hold that of earlier tokens."""

    def finish(self) -> str:
        """The rest."""


def detokenizer(tokenizer: Tokenizer, context: Sequence[int] = (), shown: Collection[str] = ()) -> Detokenizer:
    """For a text that goes on after the tokens of `context`, or that begins here if there are none.

    Special tokens are left out, but for those in `shown`.
    """
    added = tokenizer.get_added_tokens_decoder()
    skipped = frozenset(number for number, token in added.items() if token.special and token.content not in shown)
    kept = {number: token.content for number, token in added.items() if token.special and token.content in shown}
    before = [number for number in context[-CONTEXT_TOKENS:] if number not in skipped]
    # The decoder's own description, as in tokenizer.json; taken from there it would cost parsing the whole vocabulary.
    description = json.loads(tokenizer.decoder.__getstate__()) if tokenizer.decoder is not None else {}
    found = _piece_rule(description)
    if found is None:
        return _Window(tokenizer, skipped, before, bool(kept))
    rule, strips = found

    def piece(token_id: int) -> bytes:
        if token_id in kept:
            return kept[token_id].encode()
        token = None if token_id in skipped else tokenizer.id_to_token(token_id)
        return b"" if token is None else rule(token)

    return _Pieces(piece, strips and not before)


def token_bytes(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """The bytes of any token by itself, which may be a part of a character; special tokens' are their names."""
    added = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
    found = _piece_rule(json.loads(tokenizer.decoder.__getstate__()) if tokenizer.decoder is not None else {})

    def piece(token_id: int) -> bytes:
        if token_id in added:
            return added[token_id].encode()
        token = tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if found is None:
            text: str = tokenizer.decode([token_id], skip_special_tokens=False)
            return text.encode()
        return found[0](token)

    return piece


class _Pieces:
    """Tokens that are bytes each: joined by an incremental decoder."""

    def __init__(self, piece: Callable[[int], bytes], strips: bool) -> None:
        self._piece = piece
        self._strips = strips  # whether one space at the beginning of the text is left out, and it has not begun yet
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        piece = self._piece(token_id)
        if piece and self._strips:
            self._strips = False
            piece = piece.removeprefix(b" ")
        return self._decoder.decode(piece)

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class _Window:
    """Any other decoder: the text of the last tokens with and without the new one."""

    def __init__(self, tokenizer: Tokenizer, skipped: frozenset[int], before: list[int], shows: bool = False) -> None:
        self._tokenizer = tokenizer
        self._options = {"skip_special_tokens": False} if shows else {}  # some are part of the text
        self._skipped = skipped
        self._ids = before
        self._out = len(before)  # of these ids, how many have their text out
        self._before = tokenizer.decode(before, **self._options)

    def push(self, token_id: int) -> str:
        if token_id in self._skipped or self._tokenizer.id_to_token(token_id) is None:
            return ""  # not even looked back at: it must not push what has text out of the window
        self._ids.append(token_id)
        text: str = self._tokenizer.decode(self._ids, **self._options)
        if text.endswith(REPLACEMENT) and len(self._ids) - self._out <= MAX_PENDING_TOKENS:
            return ""
        return self._take(text)

    def finish(self) -> str:
        return self._take(self._tokenizer.decode(self._ids, **self._options))

    def _take(self, text: str) -> str:
        ready = text[len(self._before) :]
        self._ids = self._ids[-CONTEXT_TOKENS:]
        self._out = len(self._ids)
        self._before = self._tokenizer.decode(self._ids, **self._options)
        return ready


def _piece_rule(description: dict[str, Any]) -> tuple[Callable[[str], bytes], bool] | None:
    """A token's bytes, and whether the text's first space is left out; None if the decoder is of another kind."""
    steps = description.get("decoders", [description])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        return _byte_level, False
    if kinds[:1] == ["Replace"] and set(kinds[1:]) <= {"ByteFallback", "Fuse", "Strip"}:
        mark, space = steps[0].get("pattern", {}).get("String"), steps[0].get("content")
        strips = kinds[-1] == "Strip"
        # A Strip before the Fuse would strip every token.
        expected = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        if not mark or space is None or (strips and (steps[-1] != expected or "Fuse" not in kinds[:-1])):
            return None
        return _marked(mark, space, fallback="ByteFallback" in kinds), strips
    return None


def _byte_level(token: str) -> bytes:
    """A token of byte-level BPE stands for the bytes of its characters; an added token is its own text."""
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:
        return token.encode()


def _marked(mark: str, space: str, fallback: bool) -> Callable[[str], bytes]:
    def piece(token: str) -> bytes:
        byte = _FALLBACK_BYTE.fullmatch(token) if fallback else None
        return bytes([int(byte[1], 16)]) if byte else token.replace(mark, space).encode()

    return piece


def _byte_characters() -> dict[str, int]:
    """The alphabet of byte-level BPE (Radford et al. 2019): printable Latin-1 stands for itself, the rest from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in plain)
    return {chr(byte): byte for byte in plain} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_characters()
