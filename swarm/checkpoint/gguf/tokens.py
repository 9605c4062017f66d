"""What the engine must know of the tokens of a model in GGUF: how many there are, and which begin and end answers."""

from __future__ import annotations

from typing import Any

from swarm.checkpoint.gguf.keys import Keys
from swarm.checkpoint.gguf.model import GgufModel
from swarm.errors import ModelFault

EMBEDDING = "token_embd.weight"
CONTROL = 3  # the type of tokens that no text is cut into
ROLES = ("bos", "eos", "eot", "eom", "unknown", "padding")
SENTENCEPIECE_IDS = {"unknown": 0, "bos": 1, "eos": 2}  # where a file with such a vocabulary says nothing
END_MARKS = frozenset(  # tokens that end an answer, whatever else the file says of them
    [
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<EOT>",
        "<|return|>",
        "<|call|>",
    ]
)
PART_END, WHOLE_END = "<|end|>", "<|return|>"  # where there is the latter, the former ends but a part of an answer


def vocabulary_size(model: GgufModel) -> int:
    """As the embedding bears it out. Raises ModelFault."""
    entry = model.entry(EMBEDDING)
    if entry is None or not entry.shape:
        raise ModelFault(f"{model.path}: lacks tensor {EMBEDDING}; it is no whole model")
    return entry.shape[0]


def special_ids(keys: Keys, vocab: int) -> dict[str, int]:
    """The ids of tokens with a role of their own, as far as there are any: bos, eos, eot, eom, unknown, padding."""
    usual = SENTENCEPIECE_IDS if keys.text("tokenizer.ggml.model") == "llama" else {}
    ids = {role: number for role, number in usual.items() if number < vocab}
    for role in ROLES:
        key = f"tokenizer.ggml.{role}_token_id"
        if keys.has(key):
            value = keys.values[keys.full(key)]
            if role == "padding" and type(value) is int and not 0 <= value < vocab:
                continue  # files say so that there is none; nothing is padded here
            ids[role] = keys.whole(key)
            if ids[role] >= vocab:
                raise keys.fault(key, f"{ids[role]} is not within the vocabulary of {vocab}")
    return ids


def token_ids(keys: Keys, vocab: int) -> dict[str, Any]:
    """The tokens that begin and end answers; those that end a turn count too."""
    named = special_ids(keys, vocab)
    ends = [named[role] for role in ("eos", "eot", "eom") if role in named]
    tokens, types = keys.array("tokenizer.ggml.tokens"), keys.array("tokenizer.ggml.token_type")
    if tokens is not None and types is not None:
        both = zip(tokens.texts(), types.numbers(), strict=False)
        marks = {token: number for number, (token, kind) in enumerate(both) if kind == CONTROL and token in END_MARKS}
        if WHOLE_END in marks:
            marks.pop(PART_END, None)
        ends += [number for number in marks.values() if number < vocab and number not in ends]
    ids: dict[str, Any] = {"eos_token_id": ends} if ends else {}
    return {**ids, "bos_token_id": named["bos"]} if "bos" in named else ids
