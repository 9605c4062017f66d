"""Any damage to a safetensors file is either harmless or a ModelFault; nothing else ever comes out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from swarm.checkpoint.gguf.file import open_gguf
from swarm.checkpoint.safetensors_file import ITEM_BYTES, TensorFile
from swarm.checkpoint.small_files import read_bytes, read_json
from swarm.errors import ModelFault

CONTENT = save({"a": torch.ones(2, 3), "b": torch.ones(5, dtype=torch.bfloat16), "c": torch.ones(0)}, {"format": "pt"})
HEADER_BYTES = 8 + int.from_bytes(CONTENT[:8], "little")


def opened(content: bytes) -> TensorFile | None:
    """The file, or None where it was refused; whatever it holds lies within it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.safetensors"
        path.write_bytes(content)
        try:
            file = TensorFile.open(path)
        except ModelFault as fault:
            refusal = str(fault)
        else:
            refusal = None
    if refusal is not None:
        assert str(path) in refusal
        return None
    for name, entry in file.entries.items():
        assert 8 <= entry.begin <= entry.end <= len(content)
        assert len(file.view(name)) % ITEM_BYTES[entry.dtype] == 0
    return file


def test_an_undamaged_file() -> None:
    file = opened(CONTENT)
    assert file is not None
    assert {name: entry.shape for name, entry in file.entries.items()} == {"a": (2, 3), "b": (5,), "c": (0,)}
    assert bytes(file.view("b")) == b"\x80\x3f" * 5


@given(st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_one_byte_of_the_header_changed(where: int, change: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[where] ^= change
    opened(bytes(damaged))


@given(st.integers(0, len(CONTENT) - 1))
def test_cut_short_anywhere(kept: int) -> None:
    assert opened(CONTENT[:kept]) is None


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_any_header(header: bytes, data: bytes) -> None:
    opened(len(header).to_bytes(8, "little") + header + data)


@given(
    st.dictionaries(
        st.text(max_size=4),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from([*ITEM_BYTES, "X"]),
                "shape": st.lists(st.integers(-1, 4) | st.integers(), max_size=3),
                "data_offsets": st.lists(st.integers(-1, 40), min_size=1, max_size=3),
            }
        ),
        max_size=3,
    )
)
def test_headers_of_the_right_form(header: dict[str, object]) -> None:
    raw = json.dumps(header).encode()
    opened(len(raw).to_bytes(8, "little") + raw + bytes(32))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4096\n"
READERS: dict[str, Callable[[Path], object]] = {
    "model.safetensors": TensorFile.open,
    "model.gguf": open_gguf,
    "config.json": read_json,
    "tokenizer.json": lambda path: read_bytes(path, 1 << 20),
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_git_has_not_fetched_is_told_what_fetches_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(POINTER)
    with pytest.raises(ModelFault, match=r"is a Git LFS pointer, not the file itself: run `git lfs pull`") as raised:
        READERS[name](path)
    assert str(path) in str(raised.value)
