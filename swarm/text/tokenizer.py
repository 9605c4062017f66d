"""Text to token ids and back: a model's tokenizer, its chat template, its end marks, and the text of a running answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from swarm.checkpoint import Checkpoint
from swarm.checkpoint.small_files import read_bytes, read_object
from swarm.errors import ModelFault, UsageFault
from swarm.text.answers.tool_formats import ToolFormat
from swarm.text.control_tokens import MARK, ControlTokens
from swarm.text.detokenizer import Detokenizer, detokenizer, token_bytes
from swarm.text.stops import Gate
from swarm.text.templates.chat_template import ChatTemplate, Message
from swarm.text.templates.conventions import BASE
from swarm.text.vocabularies.gguf import read_gguf_tokenizer
from swarm.text.vocabularies.legacy import read_legacy_tokenizer

MAX_TOKENIZER_BYTES = 256 << 20  # the largest known has 35 MB


class Text:
    """The text half of a model. `Text.load(model)`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        eos_ids: frozenset[int],
        template: ChatTemplate,
        directory: Path,
        turn_ends: frozenset[int] = frozenset(),
    ) -> None:
        self.tokenizer = tokenizer
        self.eos_ids = eos_ids  # tokens with which the model ends a text
        self.turn_ends = eos_ids | turn_ends  # and its turn in a chat: all that any of its files names
        self.directory = directory
        self._template = template
        self._piece = token_bytes(tokenizer)

    @classmethod
    def load(
        cls,
        model: Path,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        vocab: int | None = None,
    ) -> Text:
        """Of a directory or a GGUF file: tokenizer.json and what is there of the small files beside it, else what the GGUF
        file says of them, else the vocabularies of older directories. `vocab`: how many ids the model can produce, if that
        is known. Raises ModelFault naming the file."""
        checkpoint, said = Checkpoint(Path(model)), dict[str, Any]()
        directory = checkpoint.folder
        path = directory / "tokenizer.json"
        content = read_bytes(path, MAX_TOKENIZER_BYTES)
        if content is not None:
            try:
                tokenizer = Tokenizer.from_buffer(content)
            except Exception as error:  # the package raises no class of its own
                raise ModelFault(f"{path} is no tokenizer: {error}") from error
        elif checkpoint.gguf_paths:
            path = checkpoint.gguf_paths[0]
            tokenizer, said = read_gguf_tokenizer(model)
        else:
            tokenizer, said = read_legacy_tokenizer(directory)
        # Both may be left over from training, and would alter prompts.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        template = ChatTemplate.load(
            directory, now, lambda token: tokenizer.token_to_id(token) is not None, said, path if said else None
        )
        ends = _eos_ids(checkpoint, tokenizer, vocab)
        return cls(tokenizer, ends, template, directory, frozenset().union(*_ends(checkpoint, tokenizer, vocab)))

    @property
    def chats(self) -> bool:
        """Whether the model knows conversations: it has a chat template, or its tokens are those of a convention."""
        return self._template.convention != BASE.name

    @cached_property
    def control_tokens(self) -> ControlTokens:
        """Their names, as they may stand in strangers' words."""
        return ControlTokens(self.tokenizer, self._template.source)

    @property
    def template_takes_tools(self) -> bool:
        return self._template.takes_tools

    @property
    def thinks(self) -> bool:
        """Whether answers may begin with the model's thoughts, between marks."""
        return self._template.thinks

    @property
    def tool_format(self) -> ToolFormat:
        """How this model writes calls of tools."""
        return self._template.tool_format

    def encode(self, text: str, add_special: bool) -> list[int]:
        """Token ids; with `add_special` those that the tokenizer puts around a text. Names of special tokens in the
        text become these tokens. Raises UsageFault for text that is no Unicode (half a surrogate pair)."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageFault(f"the text is no Unicode: a lone surrogate at character {error.start}") from error
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=add_special).ids
        return ids

    def encode_prompt(self, prompt: str) -> list[int]:
        """Token ids of what `render_chat` wrote. Words that `control_tokens` has marked are plain text. Raises UsageFault,
        ModelFault."""
        return self.control_tokens.encode(prompt) if MARK in prompt else self.encode(prompt, add_special=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens and with spaces as the model wrote them."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def piece(self, token_id: int) -> bytes:
        """One token by itself, special ones included; it may be a part of a character."""
        return self._piece(token_id)

    def render_chat(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for chat messages; to be encoded with `add_special=False`, as templates write special tokens
        themselves. Raises UsageFault where the template refuses the messages, ModelFault where it misbehaves."""
        return self._template.render(messages, add_generation_prompt, tools, variables)

    def __repr__(self) -> str:
        return f"Text({self.directory}, {self.tokenizer.get_vocab_size()} tokens, eos {sorted(self.eos_ids)})"


class TextStream:
    """The text of an answer as its tokens come: whole characters only, and nothing that may turn out to be a stop.

    `stop` holds texts and `stop_ids` sequences of token ids that end the answer without being part of it; both may
    span tokens. Of several the one that is complete first counts. `context` holds the ids before the answer when its
    text goes on from theirs (a plain completion): the space that some tokenizers leave out of a text's beginning is
    then kept. Special tokens in `shown` are kept as text. The cost of a token does not grow with the text.
    """

    def __init__(
        self,
        text: Text,
        stop: Sequence[str] = (),
        stop_ids: Sequence[Sequence[int]] = (),
        context: Sequence[int] = (),
        shown: Sequence[str] = (),
    ) -> None:
        self.stopped: str | None = None  # "stop" once a stop was met; what is pushed from then on is ignored
        self._ids: Gate[int] = Gate(stop_ids)
        self._characters: Gate[str] = Gate(stop)
        self._detokenizer: Detokenizer = detokenizer(text.tokenizer, context, shown)

    def push(self, token_id: int) -> str:
        """The text that became ready with this token."""
        if self.stopped:
            return ""
        ids, met = self._ids.push([token_id])
        return self._pass(ids, last=met, met=met)

    @property
    def stop_text(self) -> str | None:
        """The stop that was met, if it was a text."""
        return None if self._characters.met is None else "".join(self._characters.met)

    def finish(self) -> str:
        """The text still held back, when no more tokens come."""
        return "" if self.stopped else self._pass(self._ids.finish(), last=True, met=False)

    def _pass(self, ids: Sequence[int], last: bool, met: bool) -> str:
        text = "".join(map(self._detokenizer.push, ids))
        if last:
            text += self._detokenizer.finish()
        characters, stopped = self._characters.push(text)
        if last and not stopped:
            characters += self._characters.finish()
        if met or stopped:
            self.stopped = "stop"
        return "".join(characters)


def _eos_ids(checkpoint: Checkpoint, tokenizer: Tokenizer, vocab: int | None) -> frozenset[int]:
    """From generation_config.json, else config.json or GGUF's keys, else the token that tokenizer_config.json names: the
    one source that transformers takes."""
    return next((ids for ids in _ends(checkpoint, tokenizer, vocab) if ids), frozenset())


def _ends(checkpoint: Checkpoint, tokenizer: Tokenizer, vocab: int | None) -> Iterator[frozenset[int]]:
    """What each of a model's files says ends an answer. Raises ModelFault."""
    yield frozenset(number for number in checkpoint.end_ids if number >= 0 and (vocab is None or number < vocab))
    config = checkpoint.config if checkpoint.source.exists() else {}
    nested = config.get("text_config")
    value = nested.get("eos_token_id") if isinstance(nested, dict) else None
    value = config.get("eos_token_id") if value is None else value
    if value is not None:
        ids = value if isinstance(value, list) else [value]
        if not all(type(number) is int and number >= 0 for number in ids):
            raise ModelFault(f"eos_token_id in {checkpoint.source} is {value!r}: token ids are whole numbers")
        yield frozenset(ids)
    named = read_object(checkpoint.folder / "tokenizer_config.json").get("eos_token")
    token = named.get("content") if isinstance(named, dict) else named
    found = tokenizer.token_to_id(token) if isinstance(token, str) else None
    yield frozenset() if found is None else frozenset({found})
