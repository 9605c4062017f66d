"""The model of the simulation: two random layers, loaded once in a process, and the tokens of its unsplit runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import swarm.engine  # noqa: F401  (before torch: it settles what torch's libraries read when they load)

# isort: split
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from swarm.checkpoint.manifest import read_manifest
from swarm.client.generate import Answer, Options
from swarm.client.heads import Heads
from swarm.client.local import LocalSession
from swarm.client.room import Room
from swarm.engine import Head, Stage
from swarm.engine.compute_thread import InlineCompute
from swarm.records import ModelRef
from swarm.sampling import Sampling
from swarm.span import LayerSpan
from swarm.text.tokenizer import Text

LAYERS = 2
VOCABULARY = 96
HIDDEN, INNER, HEADS, CONTEXT = 32, 48, 2, 512
PRECISIONS = {"native": ("fp32", "bf16"), "portable": ("fp32", "bf16", "int8", "int4")}  # by numerics
MOST_TOKENS = 12
PROMPT_LENGTHS = (1, 2, 5, 9, 16, 17, 33, 127, 128, 130, 200, 257)  # short ones, and some around the grid of chunks
CACHE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    prompt: tuple[int, ...]
    sampling: Sampling
    tokens: int  # how many are wanted
    precision: str

    def options(self, tokens: int | None = None) -> Options:
        return Options(max_tokens=tokens or self.tokens, sampling=self.sampling, ignore_eos=True)


class Prepared:
    """What all seeds of one kind of numerics share. Nothing in it changes, except that unsplit answers are remembered."""

    def __init__(self, directory: Path, numerics: str) -> None:
        self.model: ModelRef = read_manifest(directory).ref("simulated")
        self.text = Text.load(directory)
        self._precisions = PRECISIONS[numerics]
        self.heads = {each: Head.load(directory, precision=each, numerics=numerics) for each in self._precisions}
        self._stages = {
            (span, each): Stage.load(directory, span, precision=each, cache_bytes=CACHE_BYTES, numerics=numerics)
            for span in (LayerSpan(0, 1), LayerSpan(1, 2), LayerSpan(0, 2))
            for each in self._precisions
        }
        self._answers: dict[tuple[int, bool, str], list[int]] = {}
        random = Random(0)
        longest = tuple(random.randrange(VOCABULARY) for _ in range(max(PROMPT_LENGTHS)))
        self._prompts = [longest[:count] for count in PROMPT_LENGTHS]  # they share beginnings

    def stage(self, span: LayerSpan, precision: str) -> Stage:
        """Layers ready to compute; the weights are shared, the cache is its own."""
        stage = copy(self._stages[span, precision])
        stage.pool = copy(stage.pool)
        return stage

    def ask(self, random: Random, precision: str) -> Ask:
        """One of a few prompts, greedy or sampled, and a number of tokens."""
        index = random.randrange(len(self._prompts))
        return self._ask(index, random.random() < 0.5, random.randint(1, MOST_TOKENS), precision)

    def _ask(self, index: int, greedy: bool, tokens: int, precision: str) -> Ask:
        sampling = Sampling() if greedy else Sampling(temperature=1.0, top_p=0.95, seed=index)
        return Ask(self._prompts[index], sampling, tokens, precision)

    def expected(self, ask: Ask) -> list[int]:
        """The tokens of the unsplit run."""
        name = self._prompts.index(ask.prompt), ask.sampling.temperature == 0, ask.precision
        if name not in self._answers:
            self._answers[name] = asyncio.run(self._unsplit(self._ask(*name[:2], MOST_TOKENS, name[2])))
        return self._answers[name][: ask.tokens]

    def expect_all(self) -> None:
        """Compute every unsplit answer, before there is an event loop that must not wait."""
        for index in range(len(self._prompts)):
            for greedy in (True, False):
                for precision in self._precisions:
                    self.expected(self._ask(index, greedy, MOST_TOKENS, precision))

    async def _unsplit(self, ask: Ask) -> list[int]:
        compute = InlineCompute()
        stage = self.stage(LayerSpan(0, LAYERS), ask.precision)

        @asynccontextmanager
        async def open_session(room: Room) -> AsyncIterator[tuple[LocalSession, Heads]]:
            async with LocalSession(stage, compute, room) as session:
                yield session, Heads(self.heads[ask.precision], compute)

        answer = Answer(ask.prompt, ask.options(), self.text, CONTEXT, open_session)
        await answer.read()
        return answer.token_ids


@lru_cache(len(PRECISIONS))
def prepared(numerics: str = "native") -> Prepared:
    """Made at the first call, in a folder that is gone afterwards."""
    with TemporaryDirectory(prefix="swarm-simulation-") as folder:
        _write(Path(folder))
        made = Prepared(Path(folder), numerics)
        made.expect_all()
    return made


def _write(directory: Path) -> None:
    """A Llama in the layout of Hugging Face, whose tokens are single characters."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": CONTEXT,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
    (directory / "config.json").write_text(json.dumps(config))
    save_file(_tensors(), directory / "model.safetensors", metadata={"format": "pt"})
    vocabulary = {chr(32 + number): number for number in range(VOCABULARY)}
    Tokenizer(models.BPE(vocab=vocabulary, merges=[])).save(str(directory / "tokenizer.json"))


def _tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def linear(rows: int, columns: int) -> torch.Tensor:
        weights: torch.Tensor = torch.randn(rows, columns, generator=generator) / columns**0.5
        return weights

    def norm() -> torch.Tensor:
        return 1 + 0.1 * torch.randn(HIDDEN, generator=generator)

    # small embeddings, so that the layers decide what comes next
    tensors = {"model.embed_tokens.weight": 0.2 * torch.randn(VOCABULARY, HIDDEN, generator=generator)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        tensors |= {f"{prefix}.{name}_layernorm.weight": norm() for name in ("input", "post_attention")}
        tensors |= {f"{prefix}.self_attn.{name}_proj.weight": linear(HIDDEN, HIDDEN) for name in "qkvo"}
        tensors |= {f"{prefix}.mlp.{name}_proj.weight": linear(INNER, HIDDEN) for name in ("gate", "up")}
        tensors[f"{prefix}.mlp.down_proj.weight"] = linear(HIDDEN, INNER)
    tensors["model.norm.weight"] = norm()
    tensors["lm_head.weight"] = 1.5 * linear(VOCABULARY, HIDDEN)
    return tensors
