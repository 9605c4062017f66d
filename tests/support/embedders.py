"""Tiny encoders with a WordPiece tokenizer and the files that say how a vector is made, and what transformers makes of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from support.families_encoders import CONFIGS, make_encoder
from support.tokenizers import word_piece, write_text_files
from tokenizers import Tokenizer, normalizers, processors
from torch import Tensor


@cache
def bert_tokenizer() -> Tokenizer:
    """As BERT's: lower case, [CLS] before a text and [SEP] after it."""
    tokenizer = Tokenizer.from_str(word_piece().to_str())
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.add_special_tokens(["[SEP]"])
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    return tokenizer


def make_embedder(
    directory: Path,
    *modes: str,
    unit: bool = False,
    most: int | None = None,
    name: str = "bert",
    **changes: Any,
) -> Path:
    """A tiny encoder; with modes of pooling, the files of sentence-transformers beside it."""
    make_encoder(directory, {**CONFIGS[name], **changes})
    write_text_files(directory, bert_tokenizer())
    if modes:
        write_modules(directory, *["Transformer", "Pooling", "Normalize"][: 3 if unit else 2])
        known = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
        stated = {f"pooling_mode_{mode}": mode in modes for mode in known}
        (directory / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 64, **stated}))
    if most is not None:
        lengths = {"max_seq_length": most, "do_lower_case": False}
        (directory / "sentence_bert_config.json").write_text(json.dumps(lengths))
    return directory


def write_modules(directory: Path, *kinds: str) -> None:
    """modules.json, and a folder for each module after the first."""
    modules = []
    for number, kind in enumerate(kinds):
        path = f"{number}_{kind}" if number else ""
        (directory / path).mkdir(exist_ok=True)
        kind = f"sentence_transformers.models.{kind}"
        modules.append({"idx": number, "name": str(number), "path": path, "type": kind})
    (directory / "modules.json").write_text(json.dumps(modules))


def oracle_rows(directory: Path, ids: list[int]) -> Tensor:
    """The last hidden states, [rows, hidden]."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with torch.inference_mode():
        model = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
        rows: Tensor = model(torch.tensor([ids])).last_hidden_state[0]
    return rows
