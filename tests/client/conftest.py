"""The model that most tests of sessions take, and what it says unsplit; a file with another has fixtures of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.answers import unsplit
from support.models import make_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), tokenizer=True, tie_word_embeddings=False)


@pytest.fixture(scope="session")
def expected(model: Path) -> list[int]:
    """Of `support.answers`' prompt."""
    return asyncio.run(unsplit(model))
