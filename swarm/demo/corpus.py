"""Turns the running interpreter's standard library into training text.

Three kinds of document are made from it: whole files, single functions, and single functions as the answer in a
chat. Files are held out by a hash of their name, so that the choice does not depend on order, seed or machine, and
nothing is made from a held-out file.
"""

from __future__ import annotations

import ast
import hashlib
import random
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BOS, EOS, USER, ASSISTANT = "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (BOS, EOS, USER, ASSISTANT)

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\n' + message['content'] + eos_token }}"
    # The model knows two speakers only: what a system prompt says is put to it as the user's words.
    "{% else %}{{ '<|user|>\n' + message['content'] + '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

# Tests are a dialect of their own, third-party packages have other licences, the rest is tables rather than code.
SKIPPED_FOLDERS = frozenset(
    {"__pycache__", "dist-packages", "encodings", "idle_test", "pydoc_data", "site-packages", "test", "tests"}
)
SKIPPED_FILES = ("html/entities.py", "locale.py", "_sysconfigdata")
HELD_OUT_ONE_IN = 20

# A line break keeps the indentation after it, so a prompt that ends in an indented line is cut as in training.
WORDS = r"(?:\r?\n)+[ \t]*| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|[ \t]+"


@dataclass(frozen=True)
class SourceFile:
    """One file of the library: its name relative to the library's root, and its text."""

    name: str
    text: str

    @property
    def held_out(self) -> bool:
        return hashlib.sha256(self.name.encode()).digest()[0] % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True)
class Snippet:
    """One function's source, and a request that it answers."""

    request: str
    source: str


def standard_library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def read_sources(library: Path) -> list[SourceFile]:
    """The library's Python files in the order of their names, less those that are not code worth learning."""
    sources = []
    for path in library.rglob("*.py"):
        relative = path.relative_to(library)
        name = relative.as_posix()
        if SKIPPED_FOLDERS.intersection(relative.parts) or name.startswith(SKIPPED_FILES):
            continue
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        # Form feeds are page breaks for printers; tabs and carriage returns would teach a second way to indent.
        text = text.replace("\r\n", "\n").replace("\f", "").expandtabs(8)
        if text.strip():
            sources.append(SourceFile(name, text))
    return sorted(sources, key=lambda source: source.name)


def snippets(sources: Iterable[SourceFile], seed: int, max_chars: int = 1600) -> Iterator[Snippet]:
    """Every function that is neither trivial nor long, each with a request drawn with the seed."""
    draw = random.Random(seed)
    for source in sources:
        try:
            tree = ast.parse(source.text)
        except SyntaxError:
            continue
        lines = source.text.split("\n")
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            own = lines[node.lineno - 1 : node.end_lineno]
            text = textwrap.dedent("\n".join(own)).rstrip() + "\n"
            if len(own) > 2 and len(text) <= max_chars:
                yield Snippet(_request(node, draw), text)


def _request(node: ast.FunctionDef | ast.AsyncFunctionDef, draw: random.Random) -> str:
    head = f"def {node.name}({ast.unparse(node.args)})"
    purpose = first_sentence(ast.get_docstring(node) or "")
    if not purpose:
        return draw.choice((f"Write the function {head}", f"Write {head}", f"Write a function named {node.name}."))
    return draw.choice((purpose, f"Write a function named {node.name}. {purpose}", f"Write {head}\n{purpose}"))


def first_sentence(docstring: str) -> str:
    """The first paragraph of a docstring up to its first full stop, on one line."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    stop = paragraph.find(". ")
    return paragraph if stop < 0 else paragraph[: stop + 1]


def render_chat(snippet: Snippet) -> str:
    """The snippet as CHAT_TEMPLATE renders a question and its answer, less the marks of beginning and end."""
    return f"{USER}\n{snippet.request}\n{ASSISTANT}\n{snippet.source}"


def token_id(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    if number is None:
        raise ValueError(f"the tokenizer has no {token}")
    return number


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE that puts BOS before every text it encodes with special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, token_id(tokenizer, BOS))],
    )
    return tokenizer
