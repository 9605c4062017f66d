"""Trains the demo model on the standard library of the Python that runs it: `python -m swarm.demo.train`.

The result is a directory in the Hugging Face layout. Everything drawn at random is drawn with --seed. With --steps the
run is fixed but for the order in which threads add up; with --minutes the clock decides how many steps there are, and
the same schedule is laid over the time instead. Where other programs compete for the processors, set
OMP_WAIT_POLICY=passive: threads that wait by spinning slow each other down many times over.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save, save_file
from tokenizers import Tokenizer
from torch import Tensor

from swarm.demo import corpus
from swarm.demo.modelling import Llama, Shape
from swarm.demo.optimizer import Optimizer

WARMUP, DECAY_FROM = 0.01, 0.45
# Attention over long windows is most of the cost of a step, so they come when the model knows what to use them for.
WINDOWS = ((0.88, 2048), (0.7, 512), (0.0, 256))
TOKENS_PER_STEP = 4096
SNIPPET_SHARE = 0.15
CHAT_SHARE = 2 / 3


def rate_scale(progress: float) -> float:
    """The learning rate's share of its full value after `progress` of the run: up, level, and down to nothing."""
    return max(0.0, min(progress / WARMUP, 1.0, (1 - progress) / (1 - DECAY_FROM)))


def window_length(progress: float) -> int:
    return next(length for start, length in WINDOWS if progress >= start)


@dataclass(frozen=True)
class Corpus:
    """The training documents as token ids, and the held-out texts as they are."""

    files: list[list[int]]
    snippets: list[list[int]]
    chats: list[list[int]]
    held_out: list[str]

    def epoch(self, seed: str) -> Tensor:
        """All files, and as many functions as make up SNIPPET_SHARE more, shuffled and joined."""
        draw = random.Random(seed)
        documents = list(self.files)
        wanted = int(SNIPPET_SHARE * sum(map(len, documents)))
        for index in draw.sample(range(len(self.snippets)), len(self.snippets)):
            if wanted <= 0:
                break
            document = (self.chats if draw.random() < CHAT_SHARE else self.snippets)[index]
            documents.append(document)
            wanted -= len(document)
        draw.shuffle(documents)
        return torch.tensor([token for document in documents for token in document])

    def batches(self, length: int, seed: str) -> Iterator[Tensor]:
        """Without end, batches of windows one token longer than `length`; every epoch cuts and shuffles anew."""
        rows = TOKENS_PER_STEP // length
        epoch = 0
        while True:
            stream = self.epoch(f"{seed}/{epoch}")
            generator = torch.Generator().manual_seed(random.Random(f"{seed}/{epoch}/order").getrandbits(32))
            offset = int(torch.randint(length, (), generator=generator))
            windows = stream[offset:].unfold(0, length + 1, length)
            order = torch.randperm(len(windows), generator=generator)
            for start in range(0, len(order) - rows + 1, rows):
                yield windows[order[start : start + rows]]
            epoch += 1


def load_corpus(library: Path, vocab_size: int, seed: int) -> tuple[Corpus, Tokenizer]:
    sources = corpus.read_sources(library)
    train = [source for source in sources if not source.held_out]
    tokenizer = corpus.train_tokenizer((source.text for source in train), vocab_size)
    eos = corpus.token_id(tokenizer, corpus.EOS)

    def encode(texts: list[str]) -> list[list[int]]:
        return [[*encoding.ids, eos] for encoding in tokenizer.encode_batch(texts)]

    snippets = list(corpus.snippets(train, seed))
    texts = Corpus(
        files=encode([source.text for source in train]),
        snippets=encode([snippet.source for snippet in snippets]),
        chats=encode([corpus.render_chat(snippet) for snippet in snippets]),
        held_out=[source.text for source in sources if source.held_out],
    )
    return texts, tokenizer


@torch.no_grad()
def bits_per_byte(model: Llama, tokenizer: Tokenizer, texts: list[str]) -> float:
    """What the model needs to code the texts, its context starting afresh whenever a full window is used up."""
    bits, size, length = 0.0, 0, model.shape.max_position_embeddings
    for text in texts:
        ids = torch.tensor(tokenizer.encode(text).ids)
        size += len(text.encode())
        for start in range(0, len(ids) - 1, length):
            window = ids[start : start + length + 1]
            logits = model(window[None, :-1])[0].float()
            bits += F.cross_entropy(logits, window[1:], reduction="sum").item() / math.log(2)
    return bits / size


def export(model: Llama, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the Hugging Face files, each by renaming, so that a reader never meets half of one."""
    bos, eos = corpus.token_id(tokenizer, corpus.BOS), corpus.token_id(tokenizer, corpus.EOS)
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": corpus.BOS,
        "eos_token": corpus.EOS,
        "additional_special_tokens": [corpus.USER, corpus.ASSISTANT],
        "model_max_length": model.shape.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        "chat_template": corpus.CHAT_TEMPLATE,
    }
    generation = {"bos_token_id": bos, "eos_token_id": eos, "do_sample": True, "temperature": 0.7, "top_p": 0.95}
    weights = {name: weight.bfloat16().contiguous() for name, weight in model.state_dict().items()}
    contents = {
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": _json(tokenizer_config),
        "generation_config.json": _json(generation),
        "config.json": _json(model.shape.to_config(bos, eos)),
        "model.safetensors": save(weights, metadata={"format": "pt"}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        partial = folder / f".{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, folder / name)


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


class Run:
    """One training run: how far it has come by steps or by time, and where it is kept between interruptions."""

    def __init__(self, model: Llama, optimizer: Optimizer, texts: Corpus, seed: int) -> None:
        self.model, self.optimizer, self.texts, self.seed = model, optimizer, texts, seed
        self.seconds = 0.0

    def progress(self, steps: int | None, minutes: float) -> float:
        return self.optimizer.steps / steps if steps else self.seconds / (60 * minutes)

    def train(self, steps: int | None, minutes: float, after_step: Callable[[float, float], None]) -> None:
        """Steps until the budget is spent, telling `after_step` the progress and the loss of each."""
        length = 0
        while (progress := self.progress(steps, minutes)) < 1:
            started = time.perf_counter()
            if length != window_length(progress):
                length = window_length(progress)
                # A resumed run must not be shown again what it saw first, hence the step in the seed.
                batches = self.texts.batches(length, f"{self.seed}/{length}/{self.optimizer.steps}")
            batch = next(batches)
            loss = F.cross_entropy(self.model(batch[:, :-1]).float().flatten(0, 1), batch[:, 1:].flatten())
            torch.autograd.backward(loss)
            self.optimizer.step(rate_scale(progress))
            self.seconds += time.perf_counter() - started
            after_step(progress, loss.item())

    def save(self, path: Path) -> None:
        partial = path.with_name(path.name + ".partial")
        save_file(
            self.optimizer.state(), partial, metadata={"steps": str(self.optimizer.steps), "seconds": str(self.seconds)}
        )
        os.replace(partial, path)

    def resume(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            kept = file.metadata()
            self.optimizer.restore({name: file.get_tensor(name) for name in file.keys()}, int(kept["steps"]))  # noqa: SIM118  # no mapping
        self.seconds = float(kept["seconds"])


class Reporter:
    """Prints how the run goes, and keeps a checkpoint."""

    def __init__(self, run: Run, tokenizer: Tokenizer, checkpoint: Path | None) -> None:
        self.run, self.tokenizer, self.checkpoint = run, tokenizer, checkpoint
        self.losses: list[float] = []
        self.since = run.seconds

    def __call__(self, progress: float, loss: float, every: int = 50) -> None:
        self.losses.append(loss)
        if len(self.losses) < every:
            return
        speed = every * TOKENS_PER_STEP / (self.run.seconds - self.since)
        steps, mean = self.run.optimizer.steps, sum(self.losses) / every
        line = f"{progress:6.1%}  step {steps}  loss {mean:.3f}  {speed:,.0f} tokens/s  {self.run.seconds:,.0f} s"
        if steps % (20 * every) == 0:
            line += f"  held out {bits_per_byte(self.run.model, self.tokenizer, self.run.texts.held_out):.3f} bits/byte"
        if self.checkpoint and steps % (5 * every) == 0:
            self.run.save(self.checkpoint)
        click.echo(line)
        self.losses, self.since = [], self.run.seconds


@click.command(help=__doc__)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(__file__).with_name("model"),
    help="Where the model goes.  [default: the package's own]",
)
@click.option("--minutes", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Training time.")
@click.option("--steps", type=click.IntRange(min=1), help=f"Steps of {TOKENS_PER_STEP} tokens, instead of --minutes.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--matrix-rate", type=float, default=0.02, show_default=True, help="Muon's learning rate.")
@click.option("--other-rate", type=float, default=0.004, show_default=True, help="AdamW's learning rate.")
@click.option("--weight-decay", type=float, default=0.1, show_default=True, help="For the matrices.")
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to keep the run's state in, every 250 steps; if it is there already, the run goes on from it.",
)
def main(
    out: Path,
    minutes: float,
    steps: int | None,
    seed: int,
    matrix_rate: float,
    other_rate: float,
    weight_decay: float,
    checkpoint: Path | None,
) -> None:
    torch.manual_seed(seed)
    shape = Shape()
    library = corpus.standard_library()
    texts, tokenizer = load_corpus(library, shape.vocab_size, seed)
    model = Llama(shape).bfloat16()
    click.echo(
        f"{sum(param.numel() for param in model.parameters()):,} parameters; {library}: {len(texts.files)} files,"
        f" {sum(map(len, texts.files)):,} tokens, {len(texts.snippets):,} functions; {len(texts.held_out)} files of"
        f" {sum(len(text.encode()) for text in texts.held_out):,} bytes held out"
    )
    run = Run(model, Optimizer(model, matrix_rate, other_rate, weight_decay), texts, seed)
    if checkpoint and checkpoint.exists():
        run.resume(checkpoint)
    run.train(steps, minutes, Reporter(run, tokenizer, checkpoint))
    export(model, tokenizer, out)
    click.echo(
        f"{run.optimizer.steps} steps, {run.optimizer.steps * TOKENS_PER_STEP:,} tokens, {run.seconds:,.0f} s;"
        f" held out {bits_per_byte(model, tokenizer, texts.held_out):.3f} bits/byte; written to {out}"
    )


if __name__ == "__main__":
    main()
