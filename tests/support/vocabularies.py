"""Model directories as they were before tokenizer.json: small vocabularies, and the JSON files beside them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from support.tokenizers import CORPUS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from swarm.text.vocabularies.legacy import CLASSES, KINDS

TEXTS = [
    *CORPUS,
    "Hello world 12345, I'll  can't\n\n x\t y  ",
    "  two spaces, then <s>one </s> and <|endoftext|>more<mask> <pad>",
    "[CLS] the [SEP]fox [MASK][mask] [PAD] <MASK> <|extra|> <|Extra|>the",
    "e\u0301te\u0301 \u00e9t\u00e9 \u212b ﬁ \u00ad\u200b\u0007 \U0001f999\U0001f999",
    "don't stop!! (really?) 3.14 == pi; HelloWorld\u3000全角",
    "\u2028\u0085\x1c\x0b end",
    " ",
    "",
]
FAIRSEQ = ["<s>", "<pad>", "</s>", "<unk>"]
BRACKETS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@cache
def byte_level(*special: str) -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """The vocabulary and the merges of byte-level BPE; the tokens that are given stand at its beginning."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [*special, *sorted(model["vocab"], key=model["vocab"].__getitem__)]
    return {token: number for number, token in enumerate(tokens)}, tuple(map(tuple, model["merges"]))


@cache
def words(*special: str) -> tuple[str, ...]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        [*CORPUS, *(text.lower() for text in CORPUS)], trainers.WordPieceTrainer(vocab_size=200, show_progress=False)
    )
    vocabulary = tokenizer.get_vocab()
    return (*special, *sorted(vocabulary, key=vocabulary.__getitem__))


def write(directory: Path, model: str, special: list[str], **files: Any) -> Path:
    """A directory of a model type, with the vocabulary of its kind; and JSON files by keyword."""
    directory.mkdir(exist_ok=True)
    if KINDS[CLASSES[model]].pretokens is None:
        (directory / "vocab.txt").write_text("\n".join(words(*special)) + "\n", encoding="utf-8")
    else:
        vocabulary, merges = byte_level(*special)
        (directory / "vocab.json").write_text(json.dumps(vocabulary))
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
        (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, content in {"config": {"model_type": model}, **files}.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def token(content: str, **flags: bool) -> dict[str, Any]:
    """As directories of 2022 have them."""
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False} | flags
