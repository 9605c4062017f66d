"""In which precision files hold a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type
from support.gguf import to_gguf
from support.models import make_model
from torch import Tensor

from swarm.checkpoint.own_precision import own_precision


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_floats(tmp_path: Path, dtype: str) -> None:
    assert own_precision(make_model(tmp_path / "m", dtype=dtype, shards=2)) == dtype
    (tmp_path / "m" / "model-00002-of-00002.safetensors").unlink()
    own_precision.cache_clear()
    assert own_precision(tmp_path / "m") == dtype


@pytest.mark.parametrize(("kind", "name"), [(Type.Q8_0, "as-stored"), (Type.F16, "fp16"), (Type.F32, "fp32")])
def test_gguf(tmp_path: Path, kind: Type, name: str) -> None:
    def kinds(_: str, tensor: Tensor) -> Type:
        return kind if tensor.dim() > 1 else Type.F32

    assert own_precision(to_gguf(make_model(tmp_path / "m"), tmp_path / "x.gguf", kinds)) == name


def test_quantised_safetensors(tmp_path: Path) -> None:
    model = make_model(tmp_path / "m", quantization_config={"quant_method": "fp8"})
    assert own_precision(model) == "as-stored"
