"""Tokenizers from vocab.json and merges.txt, or vocab.txt: transformers makes the same of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.vocabularies import BRACKETS, FAIRSEQ, TEXTS, token, write
from tokenizers import Tokenizer, models

from swarm.text.grammar import Grammars
from swarm.text.tokenizer import Text, TextStream
from swarm.text.vocabularies.legacy import CLASSES, KINDS

unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
familiar = st.lists(st.sampled_from([*" \n", "the", " fox", "é", "你", "<s>", "</s>", "<mask>", "[MASK]", "<|extra|>"]))
written_ones = unicode | familiar.map("".join)


OPT = {role: token("</s>") for role in ("bos_token", "eos_token", "unk_token")} | {"pad_token": token("<pad>")}
ROBERTA_MAP = {"cls_token": "<s>", "sep_token": "</s>", "mask_token": token("<mask>", lstrip=True, normalized=False)}
Case = tuple[str, list[str], dict[str, Any]]
CASES: dict[str, Case] = {
    "opt": (
        "opt",
        FAIRSEQ,
        {
            "tokenizer_config": {role: {"__type": "AddedToken", **each} for role, each in OPT.items()}
            | {
                "add_bos_token": True,
                "add_prefix_space": False,
                "tokenizer_class": "GPT2Tokenizer",
                "errors": "replace",
            },
            "special_tokens_map": OPT,
        },
    ),
    "opt-bare": ("opt", FAIRSEQ, {"tokenizer_config": {"add_bos_token": True, "bos_token": "</s>"}}),
    "gpt2": ("gpt2", ["<|endoftext|>"], {"tokenizer_config": {"model_max_length": 1024}}),
    "gpt2-bare": ("gpt2", [], {}),
    "gpt2-both-ends": (
        "gpt2",
        ["<|endoftext|>"],
        {"tokenizer_config": {"tokenizer_class": "GPT2TokenizerFast", "add_bos_token": True, "add_eos_token": True}},
    ),
    "codegen": (
        "gpt2",
        ["<|endoftext|>"],
        {
            "tokenizer_config": {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": True},
            "added_tokens": {"<|extra|>": 422, "  ": 421},
        },
    ),
    "gpt_neox": (
        "gpt_neox",
        ["<|endoftext|>", "<|padding|>"],
        {"tokenizer_config": {"tokenizer_class": "GPTNeoXTokenizer", "unk_token": "<|endoftext|>"}},
    ),
    "gpt_neox-bare": ("gpt_neox", [], {}),
    "roberta": ("roberta", [*FAIRSEQ, "<mask>"], {"special_tokens_map": ROBERTA_MAP}),
    "roberta-bare": ("roberta", FAIRSEQ, {}),
    "roberta-spaced": (
        "roberta",
        FAIRSEQ,
        {"tokenizer_config": {"add_prefix_space": True}, "added_tokens": {"<mask>": 424, "<|extra|>": 425}},
    ),
    "bart": ("gpt2", FAIRSEQ, {"config": {"model_type": "gpt2", "tokenizer_class": "BartTokenizerFast"}}),
    "qwen2": (
        "qwen2",
        [],
        {
            "tokenizer_config": {
                "added_tokens_decoder": {
                    "421": token("<|extra|>", special=False, normalized=False),
                    "420": token("<|endoftext|>", special=True, normalized=False),
                },
                "additional_special_tokens": ["<s>"],
                "bos_token": None,
                "tokenizer_class": "Qwen2Tokenizer",
            }
        },
    ),
    "qwen3-bare": ("qwen3", ["<|endoftext|>"], {"tokenizer_config": {"image_token": "<mask>"}}),
    "bert": ("bert", BRACKETS, {}),
    "bert-cased": (
        "bert",
        BRACKETS,
        {"tokenizer_config": {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}},
    ),
    "bert-map": (
        "bert",
        BRACKETS,
        {"special_tokens_map": {"mask_token": token("[MASK]"), "sep_token": token("[SEP]")}},
    ),
    "bert-accents": ("bert", BRACKETS, {"tokenizer_config": {"strip_accents": False, "tokenize_chinese_chars": False}}),
    "distilbert": (
        "distilbert",
        BRACKETS,
        {"tokenizer_config": {"do_lower_case": False, "strip_accents": True}, "added_tokens": {"<|Extra|>": 205}},
    ),
    "mpnet": (
        "mpnet",
        ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"],
        {
            "tokenizer_config": {"tokenizer_class": "MPNetTokenizer", "do_lower_case": True, "sep_token": "</s>"},
            "special_tokens_map": {"mask_token": token("<mask>", lstrip=True, normalized=False), "cls_token": "<s>"},
        },
    ),
    "mpnet-bare": ("mpnet", ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"], {}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Tokenizer, Any]]:
    from transformers import AutoTokenizer

    parent = tmp_path_factory.mktemp("vocabularies")

    @cache
    def both(name: str) -> tuple[Tokenizer, Any]:
        model, special, files = CASES[name]
        directory = write(parent / name, model, special, **files)
        return Text.load(directory).tokenizer, AutoTokenizer.from_pretrained(directory)

    return both


def agree(ours: Tokenizer, theirs: Any, text: str) -> None:
    for around in (True, False):
        ids = ours.encode(text, add_special_tokens=around).ids
        assert ids == theirs(text, add_special_tokens=around)["input_ids"]
        for skip in (True, False):
            decoded = theirs.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(ids, skip_special_tokens=skip) == decoded


@pytest.mark.parametrize("name", CASES)
def test_the_same_tokens_as_the_oracle(name: str, made: Callable[[str], tuple[Tokenizer, Any]]) -> None:
    ours, theirs = made(name)
    assert ours.get_vocab() == theirs.get_vocab()
    flags = {number: repr(each) for number, each in ours.get_added_tokens_decoder().items()}
    assert flags == {number: repr(each) for number, each in theirs.added_tokens_decoder.items()}
    for text in TEXTS:
        agree(ours, theirs, text)


@given(st.sampled_from(sorted(CASES)), written_ones)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_so_for_any_text(made: Callable[[str], tuple[Tokenizer, Any]], name: str, text: str) -> None:
    agree(*made(name), text)


def test_every_kind_is_compared() -> None:
    stated = [{**files.get("config", {}), **files.get("tokenizer_config", {})} for _, _, files in CASES.values()]
    named = {str(each.get("tokenizer_class")).removesuffix("Fast") for each in stated}
    named |= {CLASSES[model] for model, _, _ in CASES.values()}
    assert {id(KINDS[name]) for name in named & set(KINDS)} == {id(kind) for kind in KINDS.values()}


@pytest.mark.parametrize(
    ("name", "first", "last"), [("opt", 2, None), ("gpt2", None, None), ("roberta", 0, 2), ("bert", 2, 3)]
)
def test_what_stands_around_a_text(
    name: str, first: int | None, last: int | None, made: Callable[[str], tuple[Tokenizer, Any]]
) -> None:
    ours, _ = made(name)
    plain = ours.encode("the fox", add_special_tokens=False).ids
    assert ours.encode("the fox").ids == [
        *([] if first is None else [first]),
        *plain,
        *([] if last is None else [last]),
    ]


def test_a_text_half_of_an_older_directory(tmp_path: Path) -> None:
    model, special, files = CASES["opt"]
    files = {**files, "config": {"model_type": "opt", "eos_token_id": 2}}
    text = Text.load(write(tmp_path, model, special, **files))
    assert text.eos_ids == {2}
    ids = text.encode("the quick 你好", add_special=True)
    stream = TextStream(text)
    assert "".join(map(stream.push, ids)) + stream.finish() == "the quick 你好"
    assert text.piece(ids[0]) == b"</s>"
    template = "{{ eos_token }}{{ messages[0]['content'] }}{{ pad_token }}"
    (tmp_path / "chat_template.jinja").write_text(template)
    assert Text.load(tmp_path).render_chat([{"role": "user", "content": "hi"}]) == "</s>hi<pad>"


def test_answers_are_held_to_a_grammar(tmp_path: Path) -> None:
    model, special, files = CASES["opt"]
    text = Text.load(write(tmp_path, model, special, **files | {"config": {"model_type": "opt", "eos_token_id": 2}}))
    vocab = text.tokenizer.get_vocab_size()
    matcher = Grammars(text, vocab).regex("the fox|é")()
    for number in text.encode("the fox", add_special=False):
        assert matcher.allowed()[number]
        assert not matcher.allowed()[text.encode("7", add_special=False)[0]]
        matcher.accept(number)
    assert matcher.complete or list(matcher.allowed().nonzero()[0]) == [2]


def test_a_tokenizer_json_wins(tmp_path: Path) -> None:
    directory = write(tmp_path, "gpt2", [])
    whole = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    whole.save(str(directory / "tokenizer.json"))
    assert Text.load(directory).encode("a", add_special=False) == [0]
