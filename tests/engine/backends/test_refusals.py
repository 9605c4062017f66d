"""Models and machines that the library's layers cannot serve are told so before anything is computed, saying why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families_encoders import CONFIGS
from support.library import make_library_model
from support.models import make_model
from support.oracles import TINY

from swarm.checkpoint.config import read_spec
from swarm.engine.backends import open_model
from swarm.engine.backends.library.model import LibraryModel
from swarm.errors import ModelFault, UsageFault
from swarm.model import spec as engine_spec
from swarm.span import LayerSpan


def config_alone(directory: Path, **config: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


STATES = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 288}
REFUSED = {
    "an encoder beside it": (
        {"model_type": "t5", "d_model": 64, "num_layers": 2},
        "has an encoder|makes no decoder-only",
    ),
    "a state": ({"model_type": "mamba", **STATES}, "state cannot be undone row by row"),
    "states among others": (
        {**TINY, "model_type": "lfm2", "layer_types": ["full_attention", "conv", "conv"]},
        "layer 1 keeps a LinearAttentionLayer, which cannot be undone",
    ),
    "weights beside the layers": (
        {"model_type": "xlnet", "d_model": 64, "n_layer": 2, "n_head": 4},
        "layer 0 is given",
    ),
    "no list of layers": ({"model_type": "xlm", "emb_dim": 64, "n_layers": 2, "n_heads": 4}, "layers"),
    "unheard of": ({"model_type": "nonesuch", "architectures": ["NonesuchForCausalLM"]}, "makes no decoder-only model"),
    "no type": ({"hidden_size": 64}, "makes no decoder-only model"),
    "no text": ({"model_type": "vit"}, "makes no decoder-only model"),
    "too many layers": (
        {**TINY, "model_type": "stablelm", "num_hidden_layers": 10**9},
        "num_hidden_layers: 1000000000",
    ),
    "no layer": ({**TINY, "model_type": "stablelm", "num_hidden_layers": 0}, "num_hidden_layers: 0 is no whole number"),
    "too broad": (
        {**TINY, "model_type": "stablelm", "hidden_size": 10**9},
        "hidden_size: 1000000000 is no whole number",
    ),
    "nonsense": ({**TINY, "model_type": "stablelm", "hidden_size": -3}, "hidden_size: -3 is no whole number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_does_not_fit_is_told_what_does_not(tmp_path: Path, name: str) -> None:
    config, why = REFUSED[name]
    with pytest.raises(ModelFault, match=why) as raised:
        open_model(config_alone(tmp_path, **config), "transformers")
    assert str(tmp_path / "config.json") in str(raised.value)


def test_code_of_a_model_is_never_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    for model_type in ("nonesuch", "stablelm"):
        directory = make_library_model(tmp_path / model_type, "stablelm")
        config = json.loads((directory / "config.json").read_text())
        config |= {
            "model_type": model_type,
            "auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilForCausalLM"},
        }
        (directory / "config.json").write_text(json.dumps(config))
        (directory / "evil.py").write_text(f"open({str(touched)!r}, 'w').close()\n")
        if model_type == "nonesuch":
            with pytest.raises(ModelFault, match="makes no decoder-only model"):
                open_model(directory, "transformers")
        else:
            assert open_model(directory, "transformers").load_stage().spec.architecture == "StableLmForCausalLM"
    assert not touched.exists()


def test_rows_that_see_those_after_them_are_found_out(tmp_path: Path) -> None:
    model = open_model(make_bert(tmp_path), "transformers")
    with pytest.raises(ModelFault, match="other rows together than one after another"):
        model.load_stage(precision="fp32")


def make_bert(directory: Path) -> Path:
    from support.oracles import make_oracle_model

    config = {**TINY, "architectures": ["BertLMHeadModel"], "model_type": "bert", "pad_token_id": 0}
    return make_oracle_model(directory, config)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_encoder_of_our_own_engine_is_refused_at_once(tmp_path: Path, name: str) -> None:
    directory = config_alone(tmp_path, **CONFIGS[name])
    assert open_model(directory).spec.both_ways
    with pytest.raises(ModelFault, match=r"is an encoder.*leave out --backend") as raised:
        open_model(directory, "transformers")
    assert str(directory / "config.json") in str(raised.value)


def test_weights_are_verified_and_wanted_ones_alone(tmp_path: Path) -> None:
    directory = make_library_model(tmp_path, "stablelm")
    model = LibraryModel.open(directory)
    model.manifest()
    tensors = load_file(directory / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    path = directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    at = content.find(tensors[name].numpy().tobytes())
    status = path.stat()
    content[at] ^= 1
    path.write_bytes(content)
    import os

    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    for span in (LayerSpan(1, 2), None):
        with pytest.raises(ModelFault, match=rf"{name}.*do not match"):
            model.load_stage(span)
    for span in (LayerSpan(0, 1), LayerSpan(2, 3)):
        model.load_stage(span)
    model.load_head()


def test_tensors_that_lack_or_have_another_shape(tmp_path: Path) -> None:
    directory = make_library_model(tmp_path, "stablelm")
    path = directory / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.2.self_attn.q_proj.weight"
    save_file({**tensors, name: torch.zeros(64, 63)}, path, metadata={"format": "pt"})
    with pytest.raises(ModelFault, match=rf"{name}: shape \[64, 63\]"):
        LibraryModel.open(directory).load_stage()
    save_file({key: each for key, each in tensors.items() if key != name}, path, metadata={"format": "pt"})
    with pytest.raises(ModelFault, match=name):
        LibraryModel.open(directory).load_stage()
    with pytest.raises(ModelFault, match="layers 2-3 were asked for"):
        LibraryModel.open(directory).load_stage(LayerSpan(2, 4))


def test_experts_that_lack(tmp_path: Path) -> None:
    directory = make_library_model(tmp_path, "olmoe")
    path = directory / "model.safetensors"
    tensors = load_file(path)
    lost = [name for name in tensors if ".1.mlp.experts.3." in name]
    assert lost
    save_file({key: each for key, each in tensors.items() if key not in lost}, path, metadata={"format": "pt"})
    with pytest.raises(ModelFault, match=r"model\.layers\.1\.mlp\.experts"):
        LibraryModel.open(directory).load_stage()
    LibraryModel.open(directory).load_stage(LayerSpan(0, 1))


def test_an_unknown_architecture_is_told_of_the_library_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_library_model(tmp_path, "stablelm")
    with pytest.raises(ModelFault, match=r"--backend transformers.*known model types: .*llama"):
        read_spec(directory)
    monkeypatch.setattr(engine_spec, "find_spec", lambda name: None)
    with pytest.raises(ModelFault, match=r"known model types: .*llama") as raised:
        read_spec(directory)
    assert "--backend" not in str(raised.value)


def test_a_machine_without_the_library(tmp_path: Path) -> None:
    """In a process of its own: here it has been imported."""
    directory = make_model(tmp_path)
    program = (
        "import sys\n"
        "import swarm.engine.backends as backends\n"
        "assert 'transformers' not in sys.modules\n"
        "sys.modules['transformers'] = None\n"
        "from pathlib import Path\n"
        f"directory = Path({str(directory)!r})\n"
        "assert backends.open_model(directory).spec.layer_count == 4\n"
        "try:\n"
        "    backends.open_model(directory, 'transformers')\n"
        "except backends.UsageFault as fault:\n"
        "    print(fault)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install -c constraints.txt '.[transformers]'" in done.stdout


def test_there_is_no_such_backend(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="choose one of swarm, transformers"):
        open_model(make_model(tmp_path), "vllm")
