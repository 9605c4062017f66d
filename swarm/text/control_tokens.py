"""Names of control tokens in strangers' words: plain text, while the template's own stay tokens.

A prompt is written as one text, in which `<|im_start|>` of a tool's result looks as the template's. Strangers' words are marked
before the template is given them; the marked names are then plain text to a tokenizer that knows control tokens by secret names
only, which the template's own are given. Prompts without such words are encoded as ever.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from tokenizers import Tokenizer

from swarm.errors import ModelFault
from swarm.text.answers.reasoning import MARKS

MARK = "\ufdd1"  # within a name in strangers' words; no character, and never will be one (Unicode 23.7)
_SECRET = "\ufdd0"
LEAST = 3  # characters of a name


class ControlTokens:
    """Of one tokenizer and the template that goes with it."""

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        tokens = tokenizer.get_added_tokens_decoder().values()
        special = {token.content for token in tokens if token.special}
        ours = {token.content for token in tokens if _is_markup(token.content) and token.content in template}
        self._tokenizer = tokenizer
        self._names = {name for name in special | ours if len(name) >= LEAST}
        self._all = _pattern(self._names)
        # Models write the marks that are no control tokens themselves, and templates look for them in earlier answers.
        self._in_answers = _pattern({name for name in special if len(name) >= LEAST} - set(MARKS))
        self._lock = threading.Lock()
        self._secret = ""
        self._renamed: Tokenizer | None = None

    def marked(self, words: Any, *, answer: bool = False) -> Any:
        """Strangers' words, or what is made of them; `answer`: an earlier one of the model's."""
        pattern = self._in_answers if answer else self._all
        if pattern is None:
            return words
        if isinstance(words, str):
            return pattern.sub(lambda found: f"{found[0][0]}{MARK}{found[0][1:]}", words)
        if isinstance(words, Mapping):
            return {self.marked(name, answer=answer): self.marked(each, answer=answer) for name, each in words.items()}
        return [self.marked(each, answer=answer) for each in words] if isinstance(words, list | tuple) else words

    def encode(self, prompt: str) -> list[int]:
        """A prompt that holds marked words. Raises ModelFault for a tokenizer that cannot tell them apart."""
        with self._lock:
            if self._renamed is None:
                self._secret = _SECRET + secrets.token_hex(8)
                self._renamed = _renamed(self._tokenizer, self._names, self._secret)
        assert self._all is not None  # something was marked
        named = self._all.sub(lambda found: self._secret + found[0], prompt)
        ids: list[int] = self._renamed.encode(named.replace(MARK, ""), add_special_tokens=False).ids
        return ids


def _is_markup(name: str) -> bool:
    return name[:1] in "<[" and name[-1:] in ">]"


def _pattern(names: set[str]) -> re.Pattern[str] | None:
    return re.compile(_any_of(names)) if names else None


def _any_of(names: set[str]) -> str:
    """An expression that decides letter by letter: a vocabulary may have thousands of such names. The longest one counts."""
    pairs = zip(min(names), max(names), strict=False)
    begin = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    rests: dict[str, set[str]] = {}
    for name in names:
        rests.setdefault(name[len(begin) : len(begin) + 1], set()).add(name[len(begin) :])
    ends = rests.pop("", None) is not None
    inner = "|".join(map(_any_of, rests.values()))
    return re.escape(begin) + (f"(?:{inner}){'?' if ends else ''}" if rests else "")


def _renamed(tokenizer: Tokenizer, names: set[str], secret: str) -> Tokenizer:
    """The same tokenizer, to which these tokens have other names."""

    def name(text: str) -> str:
        return secret + text if text in names else text

    said = json.loads(tokenizer.to_str())
    said["added_tokens"] = [token | {"content": name(token["content"])} for token in said["added_tokens"]]
    said["post_processor"] = None  # it is not asked for anything
    model = said["model"]
    if isinstance(vocab := model.get("vocab"), dict):
        model["vocab"] = {name(piece): number for piece, number in vocab.items()}
    elif isinstance(vocab, list):
        model["vocab"] = [[name(piece), score] for piece, score in vocab]
    if model.get("merges"):
        parts = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        kept = zip(model["merges"], parts, strict=True)
        model["merges"] = [pair for pair, part in kept if "".join(part) not in names and not names & set(part)]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = name(model["unk_token"])
    made = Tokenizer.from_str(json.dumps(said))
    if any(made.token_to_id(name(each)) != tokenizer.token_to_id(each) for each in names):
        raise ModelFault("this model's tokenizer cannot tell names of control tokens in messages from its own")
    return made
