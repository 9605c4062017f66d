"""all-MiniLM-L6-v2: vectors as transformers and the model's own files make them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from swarm.client import Client

pytestmark = pytest.mark.models
SENTENCES = [
    "The cat sits on the mat.",
    "A dog chases a ball across the garden.",
    "Machines that nobody has to trust can still compute together.",
    "Paris is the capital of France.",
    "How much wood would a woodchuck chuck?",
    "2 + 2 = 4",
    "The quick brown fox jumps over the lazy dog",
    "Fünf große Äpfel für ein Café in Zürich",
    "東京は日本の首都です。",
    "It rained all night, and in the morning the streets were full of snails.",
    "SELECT name FROM users WHERE id = 7;",
    "To be, or not to be, that is the question.",
    "An unusually long word: antidisestablishmentarianism.",
    "no punctuation at all",
    "Numbers such as 3.14159 and 1,000,000 are cut into pieces!",
    "She sells sea shells by the sea shore.",
    "The train leaves at 9:45 from platform 3.",
    "A",
    "Emoji are words, too: 🙂🚀",
    "Every sentence ends somewhere; this one, after a semicolon and some more words, ends here.",
]


def test_vectors_of_twenty_sentences(minilm: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    model = AutoModel.from_pretrained(minilm, dtype=torch.float32).eval()
    theirs = []
    for sentence in SENTENCES:
        with torch.inference_mode():
            rows = model(**tokenizer(sentence, return_tensors="pt")).last_hidden_state[0]
        theirs.append(functional.normalize(rows.mean(0), dim=0))

    async def main() -> list[torch.Tensor]:
        async with Client(minilm, local=True, precision="fp32") as client:
            return [torch.tensor(await client.embed(sentence)) for sentence in SENTENCES]

    ours = asyncio.run(main())
    assert max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True)) < 1e-5
