"""Answers that are held to a grammar: JSON of any kind, a JSON schema, a regular expression or a Lark grammar.

The work is llguidance's (its own incremental parser over the tokenizer's vocabulary); here is how it is asked, bounded and
reported. Knows nothing of HTTP or of sessions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from swarm.errors import LocalFault, UsageFault
from swarm.text.grammar_trial import Trial
from swarm.text.tokenizer import Text

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # only its stubs have it

MAX_GRAMMAR_BYTES = 256 << 10
MAX_BLANKS = 8  # between two tokens of JSON
MAX_SAID = 600  # characters of why one cannot be honoured
ANY_JSON = '{"type": "object"}'  # what `json_object` asks for
# Between two tokens of JSON a small model may go on with spaces for ever.
JSON_OPTIONS: JsonCompileOptions = {"whitespace_pattern": rf"[ \n\t]{{0,{MAX_BLANKS}}}"}
LIMITS = LLParserLimits(
    max_items_in_row=20_000, step_max_items=500_000, max_lexer_states=100_000, max_grammar_size=500_000
)


class Grammars:
    """Makes constraints for one model's tokenizer. Building the table of its tokens takes a moment: once."""

    def __init__(self, text: Text, vocab: int) -> None:
        self._vocab = vocab
        self._trial = Trial()
        self._tokenizer = LLTokenizer(text.tokenizer.to_str(), n_vocab=vocab, eos_token=sorted(text.eos_ids) or None)

    def json_schema(self, schema: Mapping[str, Any] | str) -> Callable[[], Matcher]:
        """Answers that are JSON of this schema. Raises UsageFault for a schema that cannot be honoured."""
        source = schema if isinstance(schema, str) else json.dumps(schema, ensure_ascii=False)
        return self._maker(
            "json_schema", source, lambda text: LLMatcher.grammar_from_json_schema(text, overrides=JSON_OPTIONS)
        )

    def json_object(self) -> Callable[[], Matcher]:
        """Answers that are a JSON object, whatever is in it."""
        return self.json_schema(ANY_JSON)

    def regex(self, pattern: str) -> Callable[[], Matcher]:
        """Answers that match this regular expression as a whole. Raises UsageFault."""
        return self._maker("regex", pattern, LLMatcher.grammar_from_regex)

    def lark(self, grammar: str) -> Callable[[], Matcher]:
        """Answers of this grammar, in llguidance's dialect of Lark. Raises UsageFault."""
        return self._maker("grammar", grammar, LLMatcher.grammar_from_lark)

    def _maker(self, kind: str, source: str, compiled: Callable[[str], str]) -> Callable[[], Matcher]:
        if len(source.encode()) > MAX_GRAMMAR_BYTES:
            raise UsageFault(f"the {kind} is longer than {MAX_GRAMMAR_BYTES} bytes")
        try:
            grammar = compiled(source)
        except ValueError as error:
            raise UsageFault(f"the {kind} cannot be honoured: {_said(error)}") from error
        if source != ANY_JSON:
            self._trial.check(kind, grammar)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)
        if matcher.is_error():
            raise UsageFault(f"the {kind} cannot be honoured: {_said(matcher.get_error())}")
        return lambda: Matcher(matcher.deep_copy(), self._vocab)


class Matcher:
    """One answer's place in its grammar."""

    def __init__(self, matcher: LLMatcher, vocab: int) -> None:
        self._matcher = matcher
        self._vocab = vocab
        self._bits = allocate_token_bitmask(1, vocab)

    def allowed(self) -> NDArray[np.bool_]:
        """[vocab]: which ids may come next. Raises UsageFault where the grammar has grown beyond its bounds."""
        fill_next_token_bitmask(self._matcher, self._bits, 0)
        self._check()
        bits = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")
        return bits[: self._vocab].astype(np.bool_)

    @property
    def complete(self) -> bool:
        """Whether nothing can follow."""
        return self._matcher.is_stopped()

    def accept(self, token: int) -> None:
        """This one came. Raises LocalFault if it was not allowed."""
        if not self._matcher.consume_token(token):
            raise LocalFault(
                f"token {token} was drawn though it does not go on as it must: {self._matcher.get_error()}"
            )

    def _check(self) -> None:
        if self._matcher.is_error():
            raise UsageFault(f"the grammar cannot be followed further: {_said(self._matcher.get_error())}")


def _said(complaint: object) -> str:
    return " ".join(str(complaint).split())[:MAX_SAID]
