"""How texts are cut into words before byte-level BPE, by the name that GGUF files give each way (`tokenizer.ggml.pre`).

A row of data for each; the patterns are those of the models' own tokenizers. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenizers import Regex, normalizers, pre_tokenizers

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _words(digits: str, letters: str = r"\p{L}") -> str:
    """Words with what stands before them, numbers in groups, runs of other characters, blanks."""
    others = r"\s\p{L}\p{N}" if letters == r"\p{L}" else r"\s\p{L}\p{M}\p{N}"
    return rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{digits}| ?[^{others}]+[\r\n]*|{_BLANKS}"


def _cased_words(digits: str, endings: str = "") -> str:
    """Likewise, but a capital begins another word."""
    before = r"[^\r\n\p{L}\p{N}]?"
    lower, upper = f"{before}{_UPPER}*{_LOWER}+{endings}", f"{before}{_UPPER}+{_LOWER}*{endings}"
    return rf"{lower}|{upper}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"


@dataclass(frozen=True, slots=True)
class Pretokens:
    """One way to cut texts."""

    pattern: str | None = None  # None: GPT-2's, which is that of byte-level BPE itself
    single_digits: bool = False  # each stands alone, whatever the pattern says
    whole_words: bool = False  # a word that is a token is that token, whatever the merges say
    begins: bool = False  # texts begin with a token of their own where the file does not say whether they do
    composed: bool = False  # characters are composed first (Unicode's NFC)

    def pre_tokenizer(self, leading_space: bool = False) -> pre_tokenizers.PreTokenizer:
        """`leading_space`: a text that begins with none is given one."""
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=leading_space, use_regex=self.pattern is None)
        steps: list[pre_tokenizers.PreTokenizer] = []
        if self.single_digits:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        if self.pattern is not None:
            steps.append(pre_tokenizers.Split(Regex(self.pattern), behavior="isolated"))
        return pre_tokenizers.Sequence([*steps, byte_level]) if steps else byte_level

    def normalizer(self) -> normalizers.Normalizer | None:
        return normalizers.NFC() if self.composed else None


_GPT2 = Pretokens()
_LLAMA3 = Pretokens(_words(r"\p{N}{1,3}"), whole_words=True, begins=True)
_THREE_DIGITS = Pretokens(_words(r"\p{N}{1,3}"))
_QWEN2 = Pretokens(_words(r"\p{N}"), composed=True)
_STARCODER = Pretokens(single_digits=True)
_GPT_4O = Pretokens(_cased_words(r"\p{N}{1,3}", f"{_ENDINGS}?"))
PRETOKENS: Mapping[str, Pretokens] = {
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "olmo": _GPT2,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "pixtral": _LLAMA3,
    "dbrx": _THREE_DIGITS,  # also OLMo 2 and Phi 4
    "smaug-bpe": _THREE_DIGITS,
    "glm4": _THREE_DIGITS,
    "chatglm-bpe": _THREE_DIGITS,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": Pretokens(_words(r"\p{N}")),
    "qwen35": Pretokens(_words(r"\p{N}", r"[\p{L}\p{M}]"), composed=True),
    "starcoder": _STARCODER,
    "refact": _STARCODER,  # also Granite
    "smollm": _STARCODER,
    "tekken": Pretokens(_cased_words(r"\p{N}"), whole_words=True, begins=True),
    "gpt-4o": _GPT_4O,
    "llama4": _GPT_4O,
}
