"""Vocabularies that are wrong, of no known kind or not there: the file is named, and what may be done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.vocabularies import BRACKETS, FAIRSEQ, token, write

from swarm.errors import ModelFault
from swarm.text.vocabularies.legacy import read_legacy_tokenizer


def files_of(directory: Path, **files: str | bytes | None) -> Path:
    """GPT-2's, with other contents for some or without them."""
    write(directory, "gpt2", ["<|endoftext|>"])
    for name, content in files.items():
        place = directory / name.replace("__", ".")
        if content is None:
            place.unlink()
        else:
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


DAMAGE: list[tuple[dict[str, str | bytes | None], str]] = [
    ({"vocab__json": "{"}, r"vocab\.json is no JSON"),
    ({"vocab__json": "[]"}, r"vocab\.json holds no JSON object"),
    ({"vocab__json": "{}"}, r"vocab\.json is empty"),
    ({"vocab__json": '{"a": "0"}'}, r"vocab\.json: '0' of 'a' is no token id"),
    ({"vocab__json": '{"a": -1}'}, r"vocab\.json: -1 of 'a' is no token id"),
    ({"vocab__json": '{"a": 1e3}'}, r"vocab\.json: 1000\.0 of 'a' is no token id"),
    ({"vocab__json": '{"a": 4294967295}'}, r"vocab\.json: 4294967295 of 'a' is no token id"),
    ({"vocab__json": '{"a": 1, "b": 1}'}, r"vocab\.json: 'a' and 'b' are both token 1"),
    ({"vocab__json": '{"\\ud800": 1}', "merges__txt": ""}, r"vocab\.json makes no tokenizer"),
    ({"vocab__json": None, "vocab__txt": "a"}, r"vocab\.json is missing, and so is tokenizer\.json: .*Copy it"),
    ({"merges__txt": None}, r"merges\.txt is missing, and so is tokenizer\.json"),
    ({"merges__txt": "#version: 0.2\nt xq"}, r"merges\.txt: line 2, 't xq': 'xq' is no token of vocab\.json"),
    ({"merges__txt": "abc"}, r"merges\.txt: line 1, 'abc': 'abc' is no token"),
    ({"merges__txt": b"\xff \xfe"}, r"merges\.txt is not UTF-8"),
    (
        {"tokenizer_config__json": '{"add_bos_token": "yes"}'},
        r"tokenizer_config\.json: add_bos_token: 'yes' is neither",
    ),
    ({"tokenizer_config__json": '{"bos_token": 7}'}, r"tokenizer_config\.json: bos_token: 7 is no token"),
    ({"tokenizer_config__json": '{"bos_token": {"content": "x", "lstrip": 3}}'}, r"bos_token: .* is no token"),
    ({"tokenizer_config__json": '{"bos_token": "\\ud800"}'}, r"bos_token: .* is no Unicode"),
    ({"tokenizer_config__json": '{"added_tokens_decoder": []}'}, r"added_tokens_decoder: is no object"),
    ({"tokenizer_config__json": '{"added_tokens_decoder": {"x": "y"}}'}, r"added_tokens_decoder: 'x' is no token id"),
    ({"tokenizer_config__json": '{"extra_special_tokens": 3}'}, r"extra_special_tokens: 3 is no list"),
    ({"special_tokens_map__json": '{"eos_token": []}'}, r"special_tokens_map\.json: eos_token: \[\] is no token"),
    ({"added_tokens__json": '{"x": "7"}'}, r"added_tokens\.json: '7' of 'x' is no token id"),
    (
        {"added_tokens__json": '{"<x>": 9000}'},
        r"added_tokens\.json: '<x>' is said to be token 9000, but it becomes 421",
    ),
    (
        {"vocab__json": '{"a": 0, "b": 2}', "merges__txt": ""},
        r"leaves out numbers, .*'<\|endoftext\|>' becomes .*2.* 'b'",
    ),
]


@pytest.mark.parametrize(("files", "message"), DAMAGE, ids=[message for _, message in DAMAGE])
def test_damage_is_named(tmp_path: Path, files: dict[str, str | bytes | None], message: str) -> None:
    with pytest.raises(ModelFault, match=message):
        read_legacy_tokenizer(files_of(tmp_path, **files))


@pytest.mark.parametrize(
    ("content", "config", "message"),
    [
        (b"a\n##b\n", {}, r"vocab\.txt: there is no '\[UNK\]'"),
        (b"\xff\n", {}, r"vocab\.txt is not UTF-8"),
        (b"", {}, r"vocab\.txt: there is no '\[UNK\]'"),
        (None, {}, r"vocab\.txt is missing, and so is tokenizer\.json"),
        (b"[UNK]\n", {"do_lower_case": "no"}, r"tokenizer_config\.json: do_lower_case: 'no' is neither"),
        (b"[UNK]\n", {"strip_accents": 1}, r"tokenizer_config\.json: strip_accents: 1 is neither"),
        (b"[UNK]\n", {"cls_token": None}, r"tokenizer_config\.json: cls_token: names no token"),
    ],
)
def test_damage_of_word_pieces_is_named(
    tmp_path: Path, content: bytes | None, config: dict[str, Any], message: str
) -> None:
    write(tmp_path, "bert", BRACKETS, tokenizer_config=config)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "vocab.json").write_text("{}")
    if content is not None:
        (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ModelFault, match=message):
        read_legacy_tokenizer(tmp_path)


def test_files_that_are_too_large_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "gpt2", [])
    monkeypatch.setattr("swarm.text.vocabularies.legacy.MAX_TOKEN_ID", 100)
    with pytest.raises(ModelFault, match=r"vocab\.json: 101 of .* is no token id"):
        read_legacy_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(ModelFault, match=r"merges\.txt has more than 100 lines"):
        read_legacy_tokenizer(tmp_path)
    monkeypatch.setattr("swarm.text.vocabularies.legacy.MAX_VOCABULARY_BYTES", 100)
    with pytest.raises(ModelFault, match=r"merges\.txt has more than 100 bytes"):
        read_legacy_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.model", "sentencepiece.bpe.model", "spiece.model"])
def test_other_vocabularies_say_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / name).write_bytes(b"\x0a")
    with pytest.raises(ModelFault) as caught:
        read_legacy_tokenizer(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'tokenizer.json'} is missing: there is {name}, but")
    assert message.endswith(f'AutoTokenizer.from_pretrained("{tmp_path}").save_pretrained("{tmp_path}")')


def test_what_is_of_no_known_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFault, match=r"tokenizer\.json is missing, and there is neither vocab\.json nor vocab\.txt"
    ):
        read_legacy_tokenizer(tmp_path)
    write(tmp_path, "gpt2", [], config={"model_type": "martian"})
    with pytest.raises(ModelFault, match=r"neither tokenizer_config\.json nor config\.json tells what tokenizer_class"):
        read_legacy_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "CTRLTokenizer"}')
    with pytest.raises(ModelFault, match=r"a CTRLTokenizer is not made .* known: GPT2Tokenizer, .*AutoTokenizer"):
        read_legacy_tokenizer(tmp_path)


@pytest.fixture(scope="module", params=["gpt2", "bert"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    decoder = {
        "added_tokens_decoder": {"0": token("[PAD]"), "205": token("<s>"), "4": token("[MASK]", lstrip=True)},
        "add_bos_token": True,
    }
    return write(
        tmp_path_factory.mktemp("fuzz"),
        request.param,
        BRACKETS if request.param == "bert" else FAIRSEQ,
        tokenizer_config=decoder if request.param == "bert" else {"add_bos_token": True, "bos_token": token("<s>")},
        special_tokens_map={"mask_token": token("<mask>"), "additional_special_tokens": ["<s>"]},
        added_tokens={"<mask>": 424},
    )


JUNK = st.sampled_from([b"null", b"[]", b"{}", b"9" * 12, b"-1", b'"', b",", b"\n", b"1e9"]) | st.binary(max_size=9)


@given(st.data(), st.floats(0, 1, exclude_max=True), st.integers(0, 40), JUNK)
@settings(max_examples=100, deadline=None)
def test_bytes_changed_anywhere(whole: Path, data: st.DataObject, where: float, count: int, raw: bytes) -> None:
    """A tokenizer that works, or a fault that names the file."""
    place = data.draw(st.sampled_from(sorted(whole.iterdir())))
    content, outcome = place.read_bytes(), str(whole)
    at = int(where * len(content))
    place.write_bytes(content[:at] + raw + content[at + count :])
    try:
        read_legacy_tokenizer(whole)[0].encode("the fox é <s>[MASK]")
    except ModelFault as fault:
        outcome = str(fault)
    finally:
        place.write_bytes(content)
    assert str(whole) in outcome


@pytest.mark.parametrize("whole", ["gpt2", "bert"], indirect=True)
def test_unchanged_ones_are_read(whole: Path) -> None:
    tokenizer, said = read_legacy_tokenizer(whole)
    assert tokenizer.token_to_id(said["mask_token"]) in (4, 424)
