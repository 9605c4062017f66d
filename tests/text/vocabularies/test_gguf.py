"""Tokenizers and chat templates of GGUF files: transformers reads the same ids from them; damage anywhere names its key."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gguf import finish, to_gguf
from support.tokenizers import CORPUS, SPECIALS, write_text_files
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import swarm.demo
from swarm.client.client import Client, Prompt
from swarm.errors import ModelFault
from swarm.text.tokenizer import Text, TextStream
from swarm.text.vocabularies.gguf import MAX_MERGED_CHARACTERS, read_gguf_tokenizer
from swarm.text.vocabularies.pre_tokenizers import PRETOKENS

TEXTS = [
    *CORPUS,
    "Hello world 12345, I'll  can't\n\n x\t y",
    "3.14 == pi; HelloWorld XMLHttp 1,000,000",
    "<|user|>hi there<|assistant|> well",
    "\U0001f999\U0001f999 3 33 333 ---===",
    "",
]
OTHERS = ("glm4", "chatglm-bpe")  # which the oracle reads as GPT-2's; their own tokenizers are like Llama 3's
NORMAL, CONTROL, USER_DEFINED, BYTE, UNKNOWN = 1, 3, 4, 6, 2
Keys = Callable[[GGUFWriter], None]


def write(path: Path, tokens: Sequence[str], keys: Keys, rows: int | None = None, architecture: str = "llama") -> Path:
    """A file of nothing but a vocabulary, and an embedding as long."""
    writer = GGUFWriter(path, architecture)
    writer.add_token_list(list(tokens))
    keys(writer)
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens) if rows is None else rows, 32), np.float32))
    finish(writer)
    return path


@cache
def trained(pre: str) -> dict[str, Any]:
    """The vocabulary and the merges of byte-level BPE, learnt from words that were cut in that way."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = PRETOKENS[pre].pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return {"tokens": sorted(model["vocab"], key=model["vocab"].get), "merges": model["merges"]}


def byte_level(path: Path, pre: str = "qwen2", more: Keys = lambda writer: None, **changes: Any) -> Path:
    stated = trained(pre if pre in PRETOKENS else "qwen2") | changes
    kinds = changes.get("types", [CONTROL if token in SPECIALS else NORMAL for token in stated["tokens"]])

    def keys(writer: GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_types(kinds)
        writer.add_token_merges([" ".join(merge) for merge in stated["merges"]])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(1)
        more(writer)

    return write(path, stated["tokens"], keys)


PIECES = ["▁the", "▁fox", "the", "he", "▁t", "▁f", "th", "ox", "fo", "▁th", "on", "No"]


def pieces(path: Path, more: Keys = lambda writer: None, architecture: str = "llama", **changes: Any) -> Path:
    """A vocabulary in the manner of SentencePiece: bytes, letters, and pieces of which earlier ones are better."""
    letters = [chr(number) for number in range(33, 127)]
    own = [*PIECES, "▁", *letters]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "  ", *own, "<mark>", "<|end|>"]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, USER_DEFINED, *[NORMAL] * len(own), USER_DEFINED, CONTROL]
    scores = [0.0] * 259 + [-1000.0] + [-float(rank) for rank in range(len(own))] + [-1000.0] * 2

    def keys(writer: GGUFWriter) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_types(changes.get("types", types))
        writer.add_token_scores(changes.get("scores", scores))
        more(writer)

    return write(path, changes.get("tokens", tokens), keys, architecture=architecture)


def oracle(path: Path) -> Tokenizer:
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer

    architecture, tokens, _ = get_gguf_tokenizer(str(path))
    return convert_gguf_tokenizer(architecture, tokens)[0]


@pytest.mark.parametrize("pre", [pre for pre in PRETOKENS if pre not in OTHERS])
def test_byte_level_ids_are_the_oracle_s(tmp_path: Path, pre: str) -> None:
    path = byte_level(tmp_path / "x.gguf", pre)
    ours, theirs = read_gguf_tokenizer(path)[0], oracle(path)
    for text in TEXTS:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs.encode(text, add_special_tokens=False).ids, text
        assert ours.decode(ids, skip_special_tokens=False) == text
    assert ours.get_vocab().items() <= theirs.get_vocab().items()


@pytest.mark.parametrize(("pre", "whole"), [("llama-bpe", True), ("tekken", True), ("dbrx", False), ("qwen2", False)])
def test_a_word_that_is_a_token_needs_no_merges(tmp_path: Path, pre: str, whole: bool) -> None:
    tokens = [*trained(pre)["tokens"], "Ġzyzzyva"]
    tokenizer = read_gguf_tokenizer(byte_level(tmp_path / "x.gguf", pre, tokens=tokens))[0]
    assert (tokenizer.encode(" zyzzyva", add_special_tokens=False).ids == [450]) == whole


def test_glm_s_words_are_llama_s() -> None:
    assert {PRETOKENS[pre].pattern for pre in OTHERS} == {PRETOKENS["llama-bpe"].pattern}


def test_qwen_composes_characters_as_its_own_tokenizer_does(tmp_path: Path) -> None:
    from transformers.models.qwen2 import Qwen2Tokenizer

    ours = read_gguf_tokenizer(byte_level(tmp_path / "x.gguf"))[0]
    model = trained("qwen2")
    vocabulary = {token: number for number, token in enumerate(model["tokens"])}
    theirs = Qwen2Tokenizer(vocab=vocabulary, merges=[tuple(merge) for merge in model["merges"]])
    for text in [*TEXTS[:5], "cafe\u0301 Ko\u0308ln"]:
        assert ours.encode(text).ids == theirs.backend_tokenizer.encode(text).ids


@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_with_scores_as_the_oracle_s(tmp_path: Path, prefix: bool) -> None:
    path = pieces(tmp_path / "x.gguf", lambda writer: writer.add_add_space_prefix(prefix))
    ours, theirs = read_gguf_tokenizer(path)[0], oracle(path)
    if not prefix:  # which the oracle leaves out of sight
        theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    for text in ["the fox", "the thefox on<mark>", "No", "fooox Köln 你好", "x", ""]:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs.encode(text, add_special_tokens=False).ids, text
        assert ours.decode(ids) == text
    assert ours.encode("the").ids[0] == 1  # texts begin with <s> unless the file says otherwise


def test_a_space_before_every_text_and_bytes_for_what_is_no_piece(tmp_path: Path) -> None:
    tokenizer = read_gguf_tokenizer(pieces(tmp_path / "x.gguf"))[0]
    assert tokenizer.encode(" the", add_special_tokens=False).tokens == ["▁", "▁the"]
    assert tokenizer.encode("é", add_special_tokens=False).tokens == ["▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.encode("a  b", add_special_tokens=False).tokens == ["▁", "a", "  ", "▁", "b"]
    assert tokenizer.encode("<s>the", add_special_tokens=False).tokens == ["<s>", "▁the"]


def test_runs_of_spaces_that_are_tokens_as_the_oracle_reads_gemma_s(tmp_path: Path) -> None:
    path = pieces(tmp_path / "x.gguf", lambda writer: writer.add_add_space_prefix(False), architecture="gemma2")
    ours, theirs = read_gguf_tokenizer(path)[0], oracle(path)
    for text in ["the  fox", "a  b", "   the", "the fox on <mark>the", "  "]:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs.encode(text, add_special_tokens=False).ids, text
        assert ours.decode(ids) == text


def test_blanks_after_phi_s_marks_are_no_text(tmp_path: Path) -> None:
    tokenizer = read_gguf_tokenizer(pieces(tmp_path / "x.gguf", architecture="phi3"))[0]
    end, the = tokenizer.token_to_id("<|end|>"), tokenizer.token_to_id("▁the")
    assert tokenizer.encode("<|end|>\n the", add_special_tokens=False).ids == [end, the]
    assert tokenizer.encode("<s> the", add_special_tokens=False).ids == [1, tokenizer.token_to_id("▁"), the]


@pytest.mark.parametrize(
    ("pre", "says", "first", "last"),
    [
        ("qwen2", {}, None, None),
        ("qwen2", {"bos": True, "eos": True}, 0, 1),
        ("llama-bpe", {}, 0, None),
        ("llama-bpe", {"bos": False}, None, None),
    ],
)
def test_what_stands_around_a_text(
    tmp_path: Path, pre: str, says: dict[str, bool], first: int | None, last: int | None
) -> None:
    def keys(writer: GGUFWriter) -> None:
        for role, said in says.items():
            writer.add_bool(f"tokenizer.ggml.add_{role}_token", said)

    tokenizer = read_gguf_tokenizer(byte_level(tmp_path / "x.gguf", pre, keys))[0]
    plain = tokenizer.encode("fox", add_special_tokens=False).ids
    around = [[first] if first is not None else [], [last] if last is not None else []]
    assert tokenizer.encode("fox").ids == [*around[0], *plain, *around[1]]


def test_a_text_half_with_template_and_end_marks(tmp_path: Path) -> None:
    template = "{{ bos_token }}{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
    path = byte_level(tmp_path / "x.gguf", more=lambda writer: writer.add_chat_template(template))
    for model in (path, tmp_path):
        with pytest.raises(ModelFault, match=r"llama\.embedding_length: is missing"):
            Text.load(model)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 7}))
    text = Text.load(path)
    assert text.eos_ids == {7}
    assert text.chats
    assert text.render_chat([{"role": "user", "content": "hi"}]) == "<|bos|><|user|>hi"
    ids = text.encode("the quick 你好", add_special=False)
    stream = TextStream(text)
    assert "".join(map(stream.push, ids)) + stream.finish() == "the quick 你好"


def test_a_model_answers_from_its_file_alone(tmp_path: Path) -> None:
    demo = Path(swarm.demo.__file__).parent / "model"
    stated = json.loads((demo / "tokenizer.json").read_text())["model"]
    tokens = sorted(stated["vocab"], key=stated["vocab"].get)

    def keys(writer: GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(tokens)
        writer.add_token_types([CONTROL if token.startswith("<|") else NORMAL for token in tokens])
        writer.add_string("tokenizer.huggingface.json", (demo / "tokenizer.json").read_text())
        writer.add_chat_template(json.loads((demo / "tokenizer_config.json").read_text())["chat_template"])

    path = to_gguf(demo, tmp_path / "demo-f32.gguf", tokens=keys)

    async def answer(model: Path, prompt: Prompt) -> str:
        async with Client(model, local=True) as client:
            return "".join([token.text async for token in client.generate(prompt, max_tokens=12)])

    for prompt in ("def main(", [{"role": "user", "content": "a loop"}]):
        assert asyncio.run(answer(path, prompt)) == asyncio.run(answer(demo, prompt))


def test_files_beside_win(tmp_path: Path) -> None:
    path = byte_level(tmp_path / "x.gguf", more=lambda writer: writer.add_chat_template("{{ bos_token }} of the file"))
    write_text_files(tmp_path, config={"eos_token_id": 3}, tokenizer_config={"chat_template": "beside"})
    text = Text.load(path)
    assert text.render_chat([]) == "beside"
    assert text.encode("naïve Ġ", add_special=False) == [text.tokenizer.token_to_id("naïve Ġ")]
    (tmp_path / "tokenizer.json").unlink()
    assert Text.load(path).render_chat([]) == "beside"
    (tmp_path / "tokenizer_config.json").unlink()
    assert Text.load(path).render_chat([]) == "<|bos|> of the file"


def test_named_templates(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools | length }}"}]
    path = byte_level(tmp_path / "x.gguf", more=lambda writer: writer.add_chat_template(named))
    (tmp_path / "config.json").write_text("{}")
    text = Text.load(path)
    assert text.render_chat([]) == "plain"
    assert text.render_chat([], tools=[{}, {}]) == "2"


def test_a_whole_tokenizer_in_the_file(tmp_path: Path) -> None:
    whole = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    path = byte_level(
        tmp_path / "x.gguf", more=lambda writer: writer.add_string("tokenizer.huggingface.json", whole.to_str())
    )
    assert read_gguf_tokenizer(path)[0].encode("b a").ids == [1, 0]
    path = byte_level(tmp_path / "x.gguf", more=lambda writer: writer.add_string("tokenizer.huggingface.json", "[]"))
    with pytest.raises(ModelFault, match=r"x\.gguf: tokenizer\.huggingface\.json: makes no tokenizer"):
        read_gguf_tokenizer(path)


def changed(**changes: Any) -> Callable[[Path], Path]:
    return lambda path: byte_level(path, **changes)


def rescored(**changes: Any) -> Callable[[Path], Path]:
    return lambda path: pieces(path, **changes)


LIES: list[tuple[Callable[[Path], Path], str]] = [
    (changed(pre="klingon"), r"pre: 'klingon' says not .* known: gpt-2, .*qwen2"),
    (changed(merges=[trained("qwen2")["merges"][0], ["x", "yz"]]), r"merges: merge 1, 'x yz': 'yz' is no token"),
    (changed(merges=[["th"]]), r"merges: merge 0, 'th', is no pair"),
    (changed(merges=[["th", ""]]), r"merges: merge 0, 'th ', is no pair"),
    (changed(tokens=["a", "b", "a"], types=[1, 1, 1], merges=[]), r"tokens: 'a' is token 0 and token 2"),
    (changed(types=[1, 1]), r"token_type: 2 types for 450 tokens"),
    (changed(more=lambda w: w.add_uint32("tokenizer.chat_template", 7)), r"chat_template: 7 is no text"),
    (changed(more=lambda w: w.add_uint32("tokenizer.ggml.eot_token_id", 450)), r"eot_token_id: 450 is not within"),
    (changed(more=lambda w: w.add_string("tokenizer.ggml.add_bos_token", "no")), r"add_bos_token: 'no' is neither"),
    (rescored(scores=[0.0]), r"scores: 1 scores for \d+ tokens"),
    (rescored(scores=[float("nan")] * 369), r"scores: nan of token \d+ is no number"),
]


@pytest.mark.parametrize(("make", "message"), LIES)
def test_lies_are_named(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(ModelFault, match=rf"x\.gguf: tokenizer\.(ggml\.)?{message}"):
        read_gguf_tokenizer(make(tmp_path / "x.gguf"))


def test_more_tokens_than_rows_and_none_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", ["a", "b"], lambda writer: writer.add_tokenizer_model("gpt2"), rows=1)
    with pytest.raises(ModelFault, match=r"tokens: 2 tokens are more than the 1 rows of the embedding"):
        read_gguf_tokenizer(path)
    path = write(tmp_path / "x.gguf", ["a", "b"], lambda writer: writer.add_tokenizer_model("rwkv"))
    with pytest.raises(ModelFault, match=r"tokenizer\.ggml\.model: 'rwkv' is not read; known: gpt2, llama"):
        read_gguf_tokenizer(path)
    long = "a" * (MAX_MERGED_CHARACTERS + 1)
    path = pieces(tmp_path / "x.gguf", tokens=["a", long], types=[NORMAL, NORMAL], scores=[0.0, 1.0])
    with pytest.raises(ModelFault, match=r"tokens: token 1 has more than 512 characters"):
        read_gguf_tokenizer(path)


@pytest.fixture(scope="module", params=[byte_level, pieces])
def content(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = request.param(tmp_path_factory.mktemp("fuzz") / "x.gguf")
    return path, path.read_bytes()


@settings(max_examples=80, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), raw=st.binary(min_size=1, max_size=9))
def test_bytes_changed_anywhere(content: tuple[Path, bytes], where: float, raw: bytes) -> None:
    """A tokenizer, or a fault that names the file; and no memory that the file does not bear out."""
    path, whole = content
    place = int(where * (len(whole) - len(raw) - 450 * 128))  # the vocabulary, not the embedding behind it
    path.write_bytes(whole[:place] + raw + whole[place + len(raw) :])
    outcome = ""
    tracemalloc.start()
    try:
        read_gguf_tokenizer(path)
    except ModelFault as fault:
        outcome = str(fault)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        path.write_bytes(whole)
    assert peak < 4 << 20
    assert not outcome or str(path) in outcome
