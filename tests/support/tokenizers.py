"""Small tokenizers of every kind that a model may bring, and the files that go with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog. The dog sleeps; the fox does not.",
    "Où est la bibliothèque ? Grüße aus Köln, 你好世界, こんにちは, привет мир 👋🏽 👨‍👩‍👧",
    "def main() -> None:\n    print('hello world')\n\treturn None\n",
]
SPECIALS = ["<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"]


@cache
def byte_level() -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen: tokens cut characters in pieces. With <|bos|> before a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("naïve Ġ", normalized=False), AddedToken("été", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", tokenizer.token_to_id("<|bos|>"))]
    )
    return tokenizer


@cache
def sentencepiece_like() -> Tokenizer:
    """As Llama 2: a mark for spaces, one before every text, and bytes for what the vocabulary lacks."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    letters = [chr(number) for number in range(33, 127)]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("o", "x"), ("▁", "f"), ("▁f", "ox"), ("▁", "▁")]
    vocabulary = {token: number for number, token in enumerate([*tokens, *letters, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


@cache
def metaspace() -> Tokenizer:
    """As T5 and some Mistrals."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIALS, show_progress=False)
    )
    return tokenizer


@cache
def word_piece() -> Tokenizer:
    """As BERT: spaces are put between words by the decoder alone."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@cache
def undecoded() -> Tokenizer:
    """Without a decoder: tokens are joined by spaces."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    kind.__name__: kind for kind in (byte_level, sentencepiece_like, metaspace, word_piece, undecoded)
}


def write_text_files(directory: Path, tokenizer: Tokenizer | None = None, **files: Any) -> Path:
    """tokenizer.json and, by keyword, the JSON files beside it: `tokenizer_config={…}`, `config={…}`."""
    directory.mkdir(exist_ok=True)
    (tokenizer or byte_level()).save(str(directory / "tokenizer.json"))
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return directory
