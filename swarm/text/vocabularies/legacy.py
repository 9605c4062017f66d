"""Tokenizers of models that bring no tokenizer.json, from the files that were usual before: byte-level BPE in vocab.json and
merges.txt (GPT-2, OPT, RoBERTa), WordPiece in vocab.txt (BERT).

How a class of tokenizers works is a row of data; which class it is stands in tokenizer_config.json, else in config.json. The
tokens are those that transformers 5 makes of the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from swarm.checkpoint.small_files import read_object, read_text
from swarm.errors import ModelFault
from swarm.text.vocabularies.added_tokens import AddedTokens, read_added_tokens
from swarm.text.vocabularies.pre_tokenizers import PRETOKENS, Pretokens

MAX_VOCABULARY_BYTES = 16 << 20  # of vocab.txt and of merges.txt; the largest known have 5 MB
MAX_TOKEN_ID = 1 << 22  # the largest known vocabulary has 0.5 million tokens
CONFIG, VOCABULARY, MERGES, WORDS = "tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt"
PIECES = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "spm.model")  # vocabularies of SentencePiece


@dataclass(frozen=True, slots=True)
class Kind:
    """One class of tokenizers."""

    named: Mapping[str, str]  # role -> token, where no file names another
    pretokens: Pretokens | None = None  # how texts are cut before byte-level BPE; None: WordPiece
    framed: bool = False  # every text stands between cls and sep; else between bos and eos, as far as the files say so
    blanks_before_mask: bool = False  # they are part of it, where no file says how it is looked for


_END = "<|endoftext|>"
_FAIRSEQ = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "mask_token": "<mask>"}
_BRACKETS = {
    role: f"[{role[:-6].upper()}]" for role in ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
}
_GPT2 = Kind({"bos_token": _END, "eos_token": _END, "unk_token": _END}, PRETOKENS["gpt-2"])
_GPT_NEOX = Kind({**_GPT2.named, "pad_token": "<|padding|>"}, Pretokens(composed=True))
_ROBERTA = Kind({**_FAIRSEQ, "unk_token": "<unk>", "pad_token": "<pad>"}, PRETOKENS["gpt-2"], framed=True)
_QWEN2 = Kind({"eos_token": _END, "unk_token": _END, "pad_token": _END}, PRETOKENS["qwen2"])
_BERT = Kind(_BRACKETS, framed=True)
_MPNET = Kind({**_FAIRSEQ, "unk_token": "[UNK]", "pad_token": "<pad>"}, framed=True, blanks_before_mask=True)
KINDS: Mapping[str, Kind] = {  # by tokenizer_class, without the "Fast" that it may end with
    "GPT2Tokenizer": _GPT2,
    "CodeGenTokenizer": _GPT2,
    "GPTNeoXTokenizer": _GPT_NEOX,
    "RobertaTokenizer": _ROBERTA,
    "BartTokenizer": _ROBERTA,
    "LongformerTokenizer": _ROBERTA,
    "Qwen2Tokenizer": _QWEN2,
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "MPNetTokenizer": _MPNET,
}
CLASSES: Mapping[str, str] = {  # model_type -> tokenizer_class, where no file names one
    "gpt2": "GPT2Tokenizer",
    "opt": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "roberta": "RobertaTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "qwen3_moe": "Qwen2Tokenizer",
    "qwen3_next": "Qwen2Tokenizer",
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "mpnet": "MPNetTokenizer",
}


def read_legacy_tokenizer(directory: Path) -> tuple[Tokenizer, dict[str, str]]:
    """The tokenizer of a directory without tokenizer.json, and its tokens by their roles. Raises ModelFault naming the file
    that is missing or wrong."""
    config = read_object(directory / CONFIG)
    kind = _kind(directory, config)
    added = read_added_tokens(directory, config, kind.named, kind.blanks_before_mask)
    make = _word_piece if kind.pretokens is None else _byte_level
    tokenizer, vocabulary = make(directory, kind, config, added)
    _add(tokenizer, added, vocabulary, directory)
    tokenizer.post_processor = _around(directory, kind, config, added, tokenizer)
    return tokenizer, dict(added.named)


def _kind(directory: Path, config: Mapping[str, Any]) -> Kind:
    model = read_object(directory / "config.json")
    stated = config.get("tokenizer_class") or model.get("tokenizer_class") or CLASSES.get(str(model.get("model_type")))
    name = str(stated).removesuffix("Fast")
    if name in KINDS:
        return KINDS[name]
    pieces = [each for each in PIECES if (directory / each).exists()]
    if pieces:
        raise _unread(directory, f"there is {pieces[0]}, but vocabularies of SentencePiece are not read")
    if not any((directory / each).exists() for each in (VOCABULARY, WORDS)):
        raise _missing(directory, "tokenizer.json", f"and there is neither {VOCABULARY} nor {WORDS}")
    if stated is None:
        raise _unread(directory, f"neither {CONFIG} nor config.json tells what tokenizer_class its vocabulary is for")
    raise _unread(directory, f"a {stated} is not made from its vocabulary here; known: {', '.join(KINDS)}")


def _unread(directory: Path, why: str) -> ModelFault:
    save = f'AutoTokenizer.from_pretrained("{directory}").save_pretrained("{directory}")'
    return ModelFault(f"{directory / 'tokenizer.json'} is missing: {why}. Let transformers write it once: {save}")


def _missing(directory: Path, name: str, why: str = "and so is tokenizer.json") -> ModelFault:
    return ModelFault(
        f"{directory / name} is missing, {why}: without it text cannot be turned into tokens. "
        f"Copy it from where the model's weights are from"
    )


def _lines(directory: Path, name: str) -> list[str]:
    text = read_text(directory / name, MAX_VOCABULARY_BYTES)
    if text is None:
        raise _missing(directory, name)
    if text.count("\n") > MAX_TOKEN_ID:
        raise ModelFault(f"{directory / name} has more than {MAX_TOKEN_ID} lines")
    return text.removesuffix("\n").split("\n")


def _byte_level(
    directory: Path, kind: Kind, config: Mapping[str, Any], added: AddedTokens
) -> tuple[Tokenizer, dict[str, int]]:
    place, pretokens = directory / VOCABULARY, kind.pretokens or Pretokens()
    vocabulary = read_object(place)
    if not vocabulary:
        raise ModelFault(f"{place} is empty") if place.exists() else _missing(directory, VOCABULARY)
    tokens: dict[int, str] = {}
    for token, number in vocabulary.items():
        if type(number) is not int or not 0 <= number <= MAX_TOKEN_ID:
            raise ModelFault(f"{place}: {number!r} of {token!r} is no token id")
        if tokens.setdefault(number, token) != token:
            raise ModelFault(f"{place}: {tokens[number]!r} and {token!r} are both token {number}")
    merges = _merges(directory, vocabulary)
    tokenizer = Tokenizer(_made(place, lambda: models.BPE(vocabulary, merges)))
    if pretokens.composed:
        tokenizer.normalizer = pretokens.normalizer()
    tokenizer.pre_tokenizer = pretokens.pre_tokenizer(_flag(directory, config, "add_prefix_space", False))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, vocabulary


def _merges(directory: Path, vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    place, merges = directory / MERGES, []
    for number, line in enumerate(_lines(directory, MERGES), 1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#version"):
            continue
        left, _, right = line.partition(" ")
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise ModelFault(f"{place}: line {number}, {line!r}: {token!r} is no token of {VOCABULARY}")
        merges.append((left, right))
    return merges


def _word_piece(
    directory: Path, kind: Kind, config: Mapping[str, Any], added: AddedTokens
) -> tuple[Tokenizer, dict[str, int]]:
    place = directory / WORDS
    vocabulary = {line.rstrip(): number for number, line in enumerate(_lines(directory, WORDS))}
    unknown = added.named.get("unk_token")
    if unknown not in vocabulary:
        raise ModelFault(f"{place}: there is no {unknown!r}, the token for what is no other")
    tokenizer = Tokenizer(_made(place, lambda: models.WordPiece(vocabulary, unk_token=unknown)))
    strips = config.get("strip_accents")
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=_flag(directory, config, "tokenize_chinese_chars", True),
        strip_accents=None if strips is None else _flag(directory, config, "strip_accents", False),
        lowercase=_flag(directory, config, "do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer, vocabulary


def _add(tokenizer: Tokenizer, added: AddedTokens, vocabulary: Mapping[str, int], directory: Path) -> None:
    """Numbers follow those of the vocabulary, unless a token is part of it."""
    tokenizer.add_tokens(list(added.tokens))
    tokens = {number: token for token, number in vocabulary.items()}
    for token in added.tokens:
        number = tokenizer.token_to_id(token.content)
        if number is None:  # the package adds no empty ones
            continue
        stated = added.ids.get(token.content, number)
        if stated != number:
            raise ModelFault(f"{added.source}: {token.content!r} is said to be token {stated}, but it becomes {number}")
        if tokens.get(number, token.content) != token.content:
            raise ModelFault(
                f"{directory}: the vocabulary leaves out numbers, so that the added {token.content!r} becomes token "
                f"{number}, which is {tokens[number]!r}"
            )


def _around(
    directory: Path, kind: Kind, config: Mapping[str, Any], added: AddedTokens, tokenizer: Tokenizer
) -> processors.TemplateProcessing:
    """What is put around every text."""
    if kind.framed:
        first, last = "cls_token", "sep_token"
        for role in (first, last):
            if not added.named.get(role):
                raise ModelFault(
                    f"{directory / CONFIG}: {role}: names no token, but one stands at an end of every text"
                )
    else:
        first = "bos_token" if _flag(directory, config, "add_bos_token", False) else ""
        last = "eos_token" if _flag(directory, config, "add_eos_token", False) else ""
    roles = [role for role in (first, last) if added.named.get(role)]
    return processors.TemplateProcessing(
        single=[place for place in (first, "$A", last) if place == "$A" or place in roles],
        special_tokens=[  # a token may hold any characters, the pieces of a template may not
            {"id": role, "ids": [tokenizer.token_to_id(added.named[role])], "tokens": [added.named[role]]}
            for role in roles
        ],
    )


def _flag(directory: Path, config: Mapping[str, Any], name: str, default: bool) -> bool:
    value = config.get(name)
    if value is not None and type(value) is not bool:
        raise ModelFault(f"{directory / CONFIG}: {name}: {value!r} is neither true nor false")
    return default if value is None else value


def _made(place: Path, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # the package raises no class of its own
        raise ModelFault(f"{place} makes no tokenizer: {error}") from error
