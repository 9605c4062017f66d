"""The demo model as it is shipped: its files, its weights, what it writes, and the corpus it came from."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from swarm.demo import corpus, modelling, optimizer, train

MODEL = Path(train.__file__).with_name("model")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL, local_files_only=True)


def complete(model: Any, tokenizer: Any, prompt: str, tokens: int) -> str:
    inputs = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    text: str = tokenizer.decode(out[0], skip_special_tokens=True)
    return text


def test_directory_fits() -> None:
    names = {path.name for path in MODEL.iterdir()}
    assert names >= {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 12_000_000


def test_config_is_the_trained_shape() -> None:
    config = json.loads((MODEL / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert config["num_hidden_layers"] == 24
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    assert config == modelling.Shape().to_config(config["bos_token_id"], config["eos_token_id"])


def test_every_tensor_is_bf16_and_finite() -> None:
    with safe_open(MODEL / "model.safetensors", framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - the handle is no mapping
            tensor = tensors.get_tensor(name)
            assert tensor.dtype == torch.bfloat16, name
            assert tensor.isfinite().all(), name


def test_transformers_computes_what_was_trained(model: Any, tokenizer: Any) -> None:
    mine = modelling.Llama(modelling.Shape())
    mine.load_state_dict(
        {name: tensor.float() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    )
    ids = tokenizer("class Spam(Eggs):\n    def __init__(self):\n", return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(MODEL, local_files_only=True, dtype=torch.float32)(ids).logits
        torch.testing.assert_close(mine(ids), theirs, atol=1e-3, rtol=1e-3)


def test_tokenizer_round_trips_any_text(tokenizer: Any) -> None:
    text = "def f(x):\n\tif x:\n        return 'naïve — 漢字 🐍'\r\n\n\n    # 12345  \n"
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_chat_template_renders_what_was_trained(tokenizer: Any) -> None:
    chat = [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "def add(a, b):\n    return a + b\n"}]
    trained = corpus.render_chat(corpus.Snippet(chat[0]["content"], chat[1]["content"]))
    assert tokenizer.apply_chat_template(chat, tokenize=False) == corpus.BOS + trained + corpus.EOS
    prompt = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|bos|><|user|>\nAdd.\n<|assistant|>\n"


def test_completes_python(model: Any, tokenizer: Any) -> None:
    text = complete(model, tokenizer, "def __init__(self, name, value):", 64)
    assert "\n    self.name = name\n" in text


def test_answers_a_chat_with_a_function(model: Any, tokenizer: Any) -> None:
    chat = [{"role": "user", "content": "Write def get_name(self)"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**ids, max_new_tokens=160, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    answer = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    (function,) = ast.parse(answer).body
    assert isinstance(function, ast.FunctionDef)
    assert function.name == "get_name"


LIBRARY = {
    "shapes.py": '''
class Shape:
    def area(self, scale=1):
        """Return the area. Never negative."""
        side = self.side
        return side * side * scale

    def name(self):
        return "shape"
''',
    "broken.py": "def half(:\n",
    "latin.py": b"# caf\xe9\n",
    "empty.py": "\n",
    "test/test_shapes.py": "assert True\n",
    "site-packages/other.py": "import other\n",
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name, content in LIBRARY.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def test_corpus_reads_code_only(library: Path) -> None:
    assert [source.name for source in corpus.read_sources(library)] == ["broken.py", "shapes.py"]


def test_snippets_are_whole_functions_and_depend_on_the_seed_alone(library: Path) -> None:
    sources = corpus.read_sources(library)
    (snippet,) = corpus.snippets(sources, seed=3)
    assert [snippet] == list(corpus.snippets(sources, seed=3))
    assert snippet.source.startswith("def area(self, scale=1):\n    ")
    assert snippet.source.endswith("return side * side * scale\n")
    assert "Return the area." in snippet.request
    assert "Never" not in snippet.request
    requests = {next(corpus.snippets(sources, seed)).request for seed in range(20)}
    assert len(requests) == 3


def test_epochs_are_drawn_from_the_seed() -> None:
    texts = train.Corpus(
        files=[[n] * 500 for n in range(40)],
        snippets=[[100] * 100] * 40,
        chats=[[200] * 100] * 40,
        held_out=[],
    )
    first, again, other = texts.epoch("0/0"), texts.epoch("0/0"), texts.epoch("0/1")
    assert first.equal(again)
    assert not first.equal(other)
    assert len(first) == 40 * 500 * 1.15
    batch = next(texts.batches(256, "0"))
    assert batch.shape == (16, 257)
    assert batch.equal(next(texts.batches(256, "0")))


def test_schedule() -> None:
    assert train.rate_scale(0) == 0
    assert train.rate_scale(0.3) == 1
    assert train.rate_scale(1) == 0
    assert [train.window_length(progress) for progress in (0, 0.5, 0.75, 0.99)] == [256, 256, 512, 2048]


def test_orthogonalise_evens_out_singular_values() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(optimizer.orthogonalise(torch.randn(2, 48, 16)))
    assert ((values > 0.5) & (values < 1.5)).all()


def test_a_small_model_learns() -> None:
    torch.manual_seed(0)
    shape = modelling.Shape(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    small = modelling.Llama(shape).bfloat16()
    texts = train.Corpus(files=[list(range(64)) * 80] * 2, snippets=[], chats=[], held_out=[])
    losses: list[float] = []
    run = train.Run(small, optimizer.Optimizer(small, 0.02, 0.004, 0.1), texts, seed=0)
    run.train(16, 0, lambda progress, loss: losses.append(loss))
    assert run.optimizer.steps == 16
    assert losses[0] > 3.5
    assert losses[-1] < 0.6 * losses[0]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    def run() -> train.Run:
        torch.manual_seed(3)
        shape = modelling.Shape(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
        texts = train.Corpus([[5, 6, 7, 8] * 1200] * 3, [], [], [])
        network = modelling.Llama(shape).bfloat16()
        return train.Run(network, optimizer.Optimizer(network, 0.02, 0.004, 0.1), texts, seed=0)

    first = run()
    first.train(2, 0, lambda progress, loss: None)
    first.save(tmp_path / "state.safetensors")
    second = run()
    second.resume(tmp_path / "state.safetensors")
    assert (second.optimizer.steps, second.seconds) == (2, first.seconds)
    for name, kept in first.optimizer.state().items():
        assert torch.equal(kept, second.optimizer.state()[name])
    for (name, one), (_, other) in zip(first.model.named_parameters(), second.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name
