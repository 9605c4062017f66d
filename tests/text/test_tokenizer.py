"""Text and ids: what is encoded, what is decoded token by token, and what a stop lets through."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import make_model
from support.tokenizers import KINDS, byte_level, sentencepiece_like, word_piece, write_text_files
from tokenizers import Tokenizer

from swarm.errors import ModelFault, UsageFault
from swarm.text.detokenizer import CONTEXT_TOKENS, MAX_PENDING_TOKENS, _Window, detokenizer
from swarm.text.tokenizer import Text, TextStream

kinds = st.sampled_from(sorted(KINDS))
unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
familiar = st.lists(st.sampled_from([" ", "the", "fox", "你好", "👋🏽", "é", "\n", "<|eos|>", "x", "\ufffd"])).map(
    "".join
)


def text_of(tokenizer: Tokenizer) -> Text:
    return Text(tokenizer, frozenset(), None, Path("model"))


def streamed(text: Text, ids: list[int], **options: object) -> str:
    stream = TextStream(text, **options)  # type: ignore[arg-type]
    return "".join(stream.push(number) for number in ids) + stream.finish()


class TestStreaming:
    @given(kinds, unicode | familiar)
    @settings(max_examples=200)
    def test_a_text_comes_out_as_it_is_decoded_at_once(self, kind: str, written: str) -> None:
        text = text_of(KINDS[kind]())
        ids = text.encode(written, add_special=True)
        assert streamed(text, ids) == text.decode(ids)

    @given(st.sampled_from(["byte_level", "metaspace", "word_piece", "undecoded"]), st.data())
    @settings(max_examples=200)
    def test_so_do_any_ids(self, kind: str, data: st.DataObject) -> None:
        text = text_of(KINDS[kind]())
        ids = data.draw(st.lists(st.integers(0, text.tokenizer.get_vocab_size() + 3), max_size=30))
        assert streamed(text, ids) == text.decode(ids)

    def test_ids_outside_the_vocabulary_hide_nothing_before_them(self) -> None:
        text = text_of(KINDS["undecoded"]())
        assert streamed(text, [0, *[3] * CONTEXT_TOKENS, 0]) == "a a"

    @given(st.lists(st.integers(0, 255), max_size=30))
    def test_bytes_that_are_no_text_cost_only_themselves(self, raw: list[int]) -> None:
        tokenizer = sentencepiece_like()
        ids = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in raw]
        assert streamed(text_of(tokenizer), ids) == bytes(raw).removeprefix(b" ").decode("utf-8", "replace")

    def test_no_part_of_a_character_is_given_out(self) -> None:
        text = text_of(byte_level())
        stream = TextStream(text)
        pushed = [stream.push(number) for number in text.encode("\U0001f996", add_special=False)]
        assert len(pushed) > 1
        assert pushed == [""] * (len(pushed) - 1) + ["\U0001f996"]

    def test_half_a_character_at_the_end_is_shown_as_such(self) -> None:
        text = text_of(byte_level())
        ids = text.encode("\U0001f996", add_special=False)[:-1]
        assert streamed(text, ids) == text.decode(ids) == "\ufffd"

    @given(kinds, familiar)
    def test_special_tokens_have_no_text(self, kind: str, written: str) -> None:
        text = text_of(KINDS[kind]())
        special = [number for number, token in text.tokenizer.get_added_tokens_decoder().items() if token.special]
        ids = text.encode(written, add_special=False)
        between = [number for pair in zip(ids, (special or [0]) * len(ids), strict=False) for number in pair]
        if special:
            assert streamed(text, between) == text.decode(between)

    def test_an_answer_that_goes_on_keeps_its_first_space(self) -> None:
        text = text_of(sentencepiece_like())
        prompt, answer = text.encode("see", add_special=False), text.encode("the fox", add_special=False)
        assert streamed(text, answer) == "the fox"
        assert streamed(text, answer, context=prompt) == " the fox"
        assert streamed(text, answer, context=[text.tokenizer.token_to_id("<s>")]) == "the fox"

    def test_words_that_go_on_are_parted_from_the_prompt(self) -> None:
        text = text_of(word_piece())
        prompt, answer = text.encode("the dog", add_special=False), text.encode("the fox", add_special=False)
        assert streamed(text, answer, context=prompt) == " the fox"

    @given(st.lists(st.integers(0, 200), max_size=150), st.booleans())
    def test_a_window_stays_small(self, ids: list[int], broken: bool) -> None:
        window = detokenizer(word_piece())
        assert isinstance(window, _Window)
        if broken:
            window._tokenizer = Endless()  # type: ignore[assignment]
        for number in ids:
            window.push(number)
            assert len(window._ids) <= CONTEXT_TOKENS + MAX_PENDING_TOKENS


class Endless:
    """A tokenizer of which every text may go on."""

    def id_to_token(self, token_id: int) -> str:
        return "any"

    def decode(self, ids: list[int]) -> str:
        return "\ufffd" * len(ids)


def reference(written: str, stops: list[str]) -> tuple[str, bool]:
    """The text before the stop that is complete first, found by looking at every beginning of the text."""
    for end in range(1, len(written) + 1):
        met = [stop for stop in stops if written[:end].endswith(stop)]
        if met:
            return written[: end - max(map(len, met))], True
    return written, False


class TestStops:
    @given(st.text("ab c", max_size=40), st.lists(st.text("ab c", min_size=1, max_size=5), max_size=4))
    @settings(max_examples=200)
    def test_the_text_ends_before_the_first_stop(self, written: str, stops: list[str]) -> None:
        text = text_of(byte_level())
        stream = TextStream(text, stops)
        expected, met = reference(written, stops)
        shown = ""
        for number in text.encode(written, add_special=False):
            shown += stream.push(number)
            assert expected.startswith(shown), "nothing that belongs to a stop may be shown"
            if stream.stopped:
                break
        assert bool(stream.stopped) or not met
        assert shown + stream.finish() == expected

    @given(
        st.lists(st.integers(4, 6), max_size=30),
        st.lists(st.lists(st.integers(4, 6), min_size=1, max_size=4), max_size=3),
    )
    def test_so_it_does_for_stops_given_as_ids(self, ids: list[int], stops: list[list[int]]) -> None:
        text = text_of(byte_level())
        as_text, met = reference("".join(map(chr, ids)), ["".join(map(chr, stop)) for stop in stops])
        stream = TextStream(text, (), stops)
        shown = "".join(stream.push(number) for number in ids) + stream.finish()
        assert shown == text.decode([ord(letter) for letter in as_text])
        assert (stream.stopped == "stop") == met

    def test_a_stop_that_spans_tokens_is_never_shown(self) -> None:
        text = text_of(byte_level())
        ids = [text.tokenizer.token_to_id(token) for token in ("a", "#", "#", "x", "#", "#", "#", "b")]
        stream = TextStream(text, ["###"])
        assert [stream.push(number) for number in ids] == ["a", "", "", "##x", "", "", "", ""]
        assert stream.stopped == "stop"
        assert stream.finish() == ""

    def test_text_before_a_stop_in_one_token_is_shown(self) -> None:
        text = text_of(byte_level())
        token = text.encode("naïve Ġ", add_special=False)
        assert len(token) == 1
        stream = TextStream(text, ["v"])
        assert stream.push(token[0]) == "naï"
        assert stream.stopped == "stop"

    def test_of_two_stops_the_one_that_is_complete_first(self) -> None:
        assert reference("xabcd", ["abcd", "bc"]) == ("xa", True)
        assert (
            streamed(
                text_of(byte_level()), byte_level().encode("xabcd", add_special_tokens=False).ids, stop=["abcd", "bc"]
            )
            == "xa"
        )

    def test_text_held_for_a_stop_text_is_shown_when_ids_stop(self) -> None:
        text = text_of(byte_level())
        eos = text.tokenizer.token_to_id("<|eos|>")
        ids = [*text.encode("a#", add_special=False), eos]
        stream = TextStream(text, ["##"], [[eos]])
        assert [stream.push(number) for number in ids] == ["a", "", "#"]
        assert stream.stopped == "stop"

    def test_a_stop_that_is_complete_only_at_the_end_counts(self) -> None:
        text = text_of(byte_level())
        stream = TextStream(text, ["\ufffd"])
        half = text.encode("\U0001f996", add_special=False)[:1]
        assert stream.push(half[0]) == ""
        assert stream.finish() == ""
        assert stream.stopped == "stop"

    @pytest.mark.parametrize("options", [{"stop": [""]}, {"stop_ids": [()]}, {"stop": ["x" * 1025]}])
    def test_stops_have_a_length(self, options: dict[str, object]) -> None:
        with pytest.raises(UsageFault, match="1 to 1024"):
            TextStream(text_of(byte_level()), **options)  # type: ignore[arg-type]


class TestFiles:
    def test_a_model_directory_is_read(self, tmp_path: Path) -> None:
        text = Text.load(write_text_files(tmp_path, config={"eos_token_id": 7}))
        assert text.decode(text.encode("hello 你好", add_special=True)) == "hello 你好"
        assert text.encode("a", add_special=True)[0] == text.tokenizer.token_to_id("<|bos|>")
        assert text.encode("a", add_special=True)[1:] == text.encode("a", add_special=False)
        assert text.eos_ids == {7}
        assert "eos [7]" in repr(text)

    @pytest.mark.parametrize(
        ("files", "ids"),
        [
            ({"generation_config": {"eos_token_id": [1, 5]}, "config": {"eos_token_id": 9}}, {1, 5}),
            ({"generation_config": {"temperature": 1}, "config": {"eos_token_id": 9}}, {9}),
            ({"generation_config": {"eos_token_id": 0}}, {0}),
            ({"tokenizer_config": {"eos_token": "<|eos|>"}}, {1}),
            ({"tokenizer_config": {"eos_token": {"content": "<|eos|>"}}}, {1}),
            ({"config": {"eos_token_id": None}}, set()),
            ({"config": {"text_config": {"eos_token_id": [3, 4]}}}, {3, 4}),
            ({"config": {"text_config": {"eos_token_id": 3}, "eos_token_id": 9}}, {3}),
            ({"config": {"text_config": {"eos_token_id": None}, "eos_token_id": 9}}, {9}),
            ({}, set()),
        ],
        ids=str,
    )
    def test_where_the_end_marks_stand(self, tmp_path: Path, files: dict[str, object], ids: set[int]) -> None:
        assert Text.load(write_text_files(tmp_path, **files)).eos_ids == ids

    @pytest.mark.parametrize(("value", "ids"), [([50256, 5, 421], {5}), (50256, {9}), (-1, {9})], ids=str)
    def test_end_marks_that_the_model_cannot_produce_are_dropped(
        self, tmp_path: Path, value: object, ids: set[int]
    ) -> None:
        files = {"generation_config": {"eos_token_id": value}, "config": {"eos_token_id": 9}}
        assert Text.load(write_text_files(tmp_path, **files), vocab=421).eos_ids == ids

    @pytest.mark.parametrize("value", ["7", [1, "x"], -1, 1.5, True])
    def test_end_marks_that_are_no_ids_are_named(self, tmp_path: Path, value: object) -> None:
        with pytest.raises(ModelFault, match=r"config\.json is .*whole numbers"):
            Text.load(write_text_files(tmp_path, config={"eos_token_id": value}))

    def test_a_missing_tokenizer_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFault, match=f"{tmp_path / 'tokenizer.json'} is missing"):
            Text.load(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"model": {"type": "BPE"}}', b'{"version"'])
    def test_a_broken_tokenizer_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(ModelFault, match=r"tokenizer\.json is no tokenizer"):
            Text.load(tmp_path)

    @pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "special_tokens_map.json"])
    @pytest.mark.parametrize("content", [b"{", b"[]", b"\xff{}", b"[" * 100_000], ids=["cut", "list", "latin", "deep"])
    def test_other_broken_files_are_named(self, tmp_path: Path, name: str, content: bytes) -> None:
        write_text_files(tmp_path, tokenizer_config={"chat_template": "x"})
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFault, match=name):
            Text.load(tmp_path)

    def test_a_file_that_is_too_large_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("swarm.text.tokenizer.MAX_TOKENIZER_BYTES", 100)
        with pytest.raises(ModelFault, match=r"tokenizer\.json has more than 100 bytes"):
            Text.load(write_text_files(tmp_path))

    def test_truncation_and_padding_of_training_are_not_kept(self, tmp_path: Path) -> None:
        tokenizer = Tokenizer.from_str(byte_level().to_str())
        tokenizer.enable_truncation(2)
        tokenizer.enable_padding(length=9)
        text = Text.load(write_text_files(tmp_path, tokenizer))
        assert text.decode(text.encode("a b c d e f", add_special=False)) == "a b c d e f"

    def test_text_that_is_no_unicode_is_refused(self) -> None:
        with pytest.raises(UsageFault, match="lone surrogate at character 2"):
            text_of(byte_level()).encode("ab\ud800", add_special=False)


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
def test_special_tokens_that_are_part_of_a_format_stay_in_the_text(kind: str) -> None:
    text = text_of(KINDS[kind]())
    ids = text.encode("<|user|>the fox<|eos|><|user|>", add_special=False)
    assert streamed(text, ids, shown=["<|user|>"]).replace(" ", "") == "<|user|>thefox<|user|>"
    assert "<|" not in streamed(text, ids)


def test_a_chat_ends_with_what_any_file_names_a_text_with_what_one_does(tmp_path: Path) -> None:
    model = make_model(tmp_path / "m", tokenizer=True)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"eos_token_id": 11}))
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [12]}))
    text = Text.load(model)
    named = text.tokenizer.id_to_token(13)
    (model / "tokenizer_config.json").write_text(json.dumps({"eos_token": named}))
    text = Text.load(model)
    assert text.eos_ids == {12}
    assert text.turn_ends == {11, 12, 13}
