"""The tokenizer and the chat template of a model in GGUF, from the keys of its files.

Two kinds are read: byte-level BPE with its merges ("gpt2"), and BPE in the manner of SentencePiece, whose tokens have scores
and whose characters may fall back to bytes ("llama"). A file that holds a whole tokenizer.json is read by that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from swarm.checkpoint.gguf.keys import Keys
from swarm.checkpoint.gguf.model import open_model
from swarm.checkpoint.gguf.tokens import CONTROL, special_ids, vocabulary_size
from swarm.text.vocabularies.pre_tokenizers import PRETOKENS

NORMAL, UNKNOWN, USER_DEFINED, UNUSED, BYTE = 1, 2, 4, 5, 6  # types of tokens, and CONTROL
MAX_MERGES = 1 << 22  # the largest known vocabulary has 0.5 million
MAX_MERGED_CHARACTERS = (
    512  # of a token with a score; beyond any vocabulary, and what it may be merged from is as many pairs
)
MAX_TEMPLATES = 64
TOKENS, TYPES, SCORES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores"
MERGES, PRE, WHOLE = "tokenizer.ggml.merges", "tokenizer.ggml.pre", "tokenizer.huggingface.json"
TEMPLATE = "tokenizer.chat_template"
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # that stands for a space in vocabularies of SentencePiece
_KEPT_BLANKS = ("<unk>", "<s>", "<|endoftext|>")  # Phi 3: blanks after all other special tokens are no text


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a file, each with its type, and the ids of those with a role of their own."""

    tokens: list[str]
    types: Sequence[int]
    ids: Mapping[str, int]  # token -> number
    roles: Mapping[str, int]

    def of_type(self, *types: int) -> list[str]:
        return [token for token, kind in zip(self.tokens, self.types, strict=True) if kind in types]


def read_gguf_tokenizer(model: Path) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer, and what tokenizer_config.json would say. Raises ModelFault naming the file and the key."""
    opened = open_model(model)
    keys = Keys(opened)
    vocabulary = _vocabulary(keys, vocabulary_size(opened))
    whole = keys.text(WHOLE)
    tokenizer = _made(keys, WHOLE, lambda: Tokenizer.from_str(whole)) if whole else _built(keys, vocabulary)
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    said: dict[str, Any] = {
        name: vocabulary.tokens[vocabulary.roles[role]]
        for role, name in names.items()
        if vocabulary.roles.get(role, len(vocabulary.tokens)) < len(vocabulary.tokens)
    }
    template = _template(keys)
    return tokenizer, said if template is None else {**said, "chat_template": template}


def _vocabulary(keys: Keys, size: int) -> Vocabulary:
    stored, types = keys.array(TOKENS), keys.array(TYPES)
    if stored is None:
        raise keys.fault(TOKENS, "is missing: without it text cannot be turned into tokens")
    if stored.count > size:
        raise keys.fault(TOKENS, f"{stored.count} tokens are more than the {size} rows of the embedding")
    if types is not None and types.count != stored.count:
        raise keys.fault(TYPES, f"{types.count} types for {stored.count} tokens")
    tokens = [token or f"[EMPTY_{number}]" for number, token in enumerate(stored.texts())]
    ids: dict[str, int] = {}
    for number, token in enumerate(tokens):
        if ids.setdefault(token, number) != number:
            raise keys.fault(TOKENS, f"{token!r} is token {ids[token]} and token {number}")
    return Vocabulary(
        tokens, [NORMAL] * len(tokens) if types is None else types.numbers(), ids, special_ids(keys, size)
    )


def _built(keys: Keys, vocabulary: Vocabulary) -> Tokenizer:
    """From tokens and merges, or tokens and scores."""
    kind = keys.text("tokenizer.ggml.model")
    if kind is None or kind not in KINDS:
        raise keys.fault("tokenizer.ggml.model", f"{kind!r} is not read; known: {', '.join(KINDS)}")
    tokenizer, begins = KINDS[kind](keys, vocabulary)
    trims = kind == "llama" and keys.prefix == "phi3"
    tokenizer.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True, rstrip=trims and token not in _KEPT_BLANKS)
            for token in vocabulary.of_type(CONTROL)
        ]
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in vocabulary.of_type(USER_DEFINED)])
    around = _around(keys, vocabulary, "bos", begins), _around(keys, vocabulary, "eos", False)
    if any(around):
        tokenizer.post_processor = _template_processing(*around)
    return tokenizer


def _around(keys: Keys, vocabulary: Vocabulary, role: str, default: bool) -> tuple[str, int] | None:
    """The token that is put before or after every text, if one is."""
    said = keys.flag(f"tokenizer.ggml.add_{role}_token")
    if not (default if said is None else said):
        return None
    number = vocabulary.roles.get(role, len(vocabulary.tokens))
    if number >= len(vocabulary.tokens):
        if said is None:
            return None
        raise keys.fault(f"tokenizer.ggml.add_{role}_token", f"is set, but no token is named as {role}_token_id")
    return vocabulary.tokens[number], number


def _template_processing(first: tuple[str, int] | None, last: tuple[str, int] | None) -> processors.TemplateProcessing:
    # Tokens may hold any characters, the pieces of a template may not
    stated = {"first": first, "last": last}
    return processors.TemplateProcessing(
        single=[*(["first"] if first else []), "$A", *(["last"] if last else [])],
        special_tokens=[
            {"id": place, "ids": [token[1]], "tokens": [token[0]]} for place, token in stated.items() if token
        ],
    )


def _byte_level(keys: Keys, vocabulary: Vocabulary) -> tuple[Tokenizer, bool]:
    pre = keys.text(PRE)
    if pre is None or pre not in PRETOKENS:
        raise keys.fault(
            PRE,
            f"{pre!r} says not how texts are cut into words; known: {', '.join(PRETOKENS)}. "
            f"A tokenizer.json beside the file is taken instead",
        )
    pretokens = PRETOKENS[pre]
    merges = _merges(keys, vocabulary)
    model = _made(keys, MERGES, lambda: models.BPE(dict(vocabulary.ids), merges, ignore_merges=pretokens.whole_words))
    tokenizer = Tokenizer(model)
    if pretokens.composed:
        tokenizer.normalizer = pretokens.normalizer()
    tokenizer.pre_tokenizer = pretokens.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, pretokens.begins


def _merges(keys: Keys, vocabulary: Vocabulary) -> list[tuple[str, str]]:
    stored = keys.array(MERGES)
    if stored is None:
        raise keys.fault(MERGES, "is missing")
    if stored.count > MAX_MERGES:
        raise keys.fault(MERGES, f"{stored.count} are more than {MAX_MERGES}")
    merges = []
    for number, merge in enumerate(stored.texts()):
        cut = merge.find(" ", 1)
        left, right = merge[:cut], merge[cut + 1 :]
        if cut < 0 or not right:
            raise keys.fault(MERGES, f"merge {number}, {merge!r}, is no pair of tokens with a space between")
        for token in (left, right, left + right):
            if token not in vocabulary.ids:
                raise keys.fault(MERGES, f"merge {number}, {merge!r}: {token!r} is no token")
        merges.append((left, right))
    return merges


def _sentencepiece(keys: Keys, vocabulary: Vocabulary) -> tuple[Tokenizer, bool]:
    merges = _merges(keys, vocabulary) if keys.has(MERGES) else _scored_merges(keys, vocabulary)
    unknown = vocabulary.roles.get("unknown", len(vocabulary.tokens))
    unk = vocabulary.tokens[unknown] if unknown < len(vocabulary.tokens) else None
    model = _made(
        keys,
        TOKENS,
        lambda: models.BPE(dict(vocabulary.ids), merges, unk_token=unk, fuse_unk=True, byte_fallback=True),
    )
    tokenizer = Tokenizer(model)
    spaces = normalizers.Replace(" ", SPACE)
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if keys.flag("tokenizer.ggml.add_space_prefix") is not False:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = spaces
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer, True


def _scored_merges(keys: Keys, vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """The pairs that make up each token, best scores first: SentencePiece always merges to the best token there is."""
    stored = keys.array(SCORES)
    if stored is None:
        raise keys.fault(SCORES, "is missing, and so are merges")
    scores = stored.numbers()
    if stored.count != len(vocabulary.tokens):
        raise keys.fault(SCORES, f"{stored.count} scores for {len(vocabulary.tokens)} tokens")
    pieces = {token: scores[vocabulary.ids[token]] for token in vocabulary.of_type(NORMAL)}
    found = []
    for token, score in pieces.items():
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise keys.fault(SCORES, f"{score!r} of token {vocabulary.ids[token]} is no number")
        if len(token) > MAX_MERGED_CHARACTERS:
            raise keys.fault(TOKENS, f"token {vocabulary.ids[token]} has more than {MAX_MERGED_CHARACTERS} characters")
        for cut in range(1, len(token)):
            if token[:cut] in pieces and token[cut:] in pieces:
                found.append((-score, vocabulary.ids[token], -cut))
    merges = [(vocabulary.tokens[number], -cut) for _, number, cut in sorted(found)]
    return [(token[:cut], token[cut:]) for token, cut in merges]


def _template(keys: Keys) -> str | list[dict[str, str]] | None:
    """One template, or several by name, as tokenizer_config.json holds them."""
    template, names = keys.text(TEMPLATE), keys.array("tokenizer.chat_templates")
    if names is None:
        return template
    if names.count > MAX_TEMPLATES:
        raise keys.fault("tokenizer.chat_templates", f"names {names.count} templates; at most {MAX_TEMPLATES}")
    named = {name: keys.text(f"{TEMPLATE}.{name}") for name in names.texts()}
    found = {name: text for name, text in {"default": template, **named}.items() if text is not None}
    return [{"name": name, "template": text} for name, text in found.items()] if "default" in found else None


def _made(keys: Keys, key: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # the package raises no class of its own
        raise keys.fault(key, f"makes no tokenizer: {error}") from error


KINDS: Mapping[str, Callable[[Keys, Vocabulary], tuple[Tokenizer, bool]]] = {  # by tokenizer.ggml.model
    "gpt2": _byte_level,
    "llama": _sentencepiece,
}
__all__ = ["Vocabulary", "read_gguf_tokenizer"]
