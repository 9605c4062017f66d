import numpy as np
import pytest
import zstandard
from hypothesis import given
from support.strategies import tensors

from swarm.errors import LocalFault, ProtocolFault
from swarm.wire import tensors as t
from swarm.wire.tensors import PLANES, RAW, Tensor, TensorHeader, is_finite, pack, same_ends, unpack


def activations(dtype: str, count: int) -> Tensor:
    """Values such as a layer gives: a few exponents, random mantissas."""
    values = np.random.default_rng(3).standard_normal(count).astype(np.float32)
    raw = values.tobytes() if dtype == "fp32" else (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return Tensor(dtype, (1, count), memoryview(raw))


@given(tensors())
def test_every_codec_gives_back_every_bit(tensor):
    for codec in (RAW, PLANES):
        header, body = pack(tensor, codec)
        header.check()
        assert unpack(header, body) == tensor


@pytest.mark.parametrize(("dtype", "least"), [("bf16", 1.4), ("fp32", 1.15)])
def test_the_codec_shortens_activations(dtype, least):
    tensor = activations(dtype, 1 << 16)
    header, body = pack(tensor, PLANES)
    assert header.codec == PLANES
    assert tensor.data.nbytes / len(body) > least
    assert unpack(header, body) == tensor


def test_what_cannot_be_shortened_travels_raw():
    noise = np.random.default_rng(0).bytes(4096)
    assert pack(Tensor("bf16", (2048,), memoryview(noise)), PLANES)[0].codec == RAW
    assert pack(Tensor("fp16", (2,), memoryview(bytes(4))), PLANES)[0].codec == RAW


@pytest.mark.parametrize(
    "header",
    [
        TensorHeader("fp64", (1,), RAW, 8),
        TensorHeader("fp32", (), RAW, 4),
        TensorHeader("fp32", (1,) * 5, RAW, 4),
        TensorHeader("fp32", (0,), RAW, 0),
        TensorHeader("fp32", (1 << 40, 1 << 40), RAW, 4),
        TensorHeader("fp32", (1 << 25,), RAW, 1 << 27),
        TensorHeader("fp32", (2, 2), RAW, 15),
        TensorHeader("fp32", (2, 2), "lz77", 16),
        TensorHeader("bf16", (100,), PLANES, 100),  # no byte left for the exponents
        TensorHeader("bf16", (100,), PLANES, 200),  # not shorter than raw
        TensorHeader("fp16", (100,), PLANES, 150),
    ],
)
def test_a_header_that_lies_is_refused_before_anything_is_allocated(header):
    with pytest.raises(ProtocolFault):
        header.check()


def test_a_compressed_plane_that_states_another_size_is_refused():
    tensor = activations("bf16", 4096)
    header, body = pack(tensor, PLANES)
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))  # 64 MiB in few bytes
    for plane in (bomb, b"", b"\0" * 9, body[4096:-1], body[4096:] + b"x", bytes(body[4096:9]) + b"\xff" * 99):
        lying = bytes(body[:4096]) + plane
        with pytest.raises(ProtocolFault, match="compressed exponents"):
            unpack(TensorHeader("bf16", (1, 4096), PLANES, len(lying)), lying)
    with pytest.raises(ProtocolFault):
        unpack(header, body[:-1])


def test_a_tensor_of_our_own_that_does_not_fit_is_our_fault():
    with pytest.raises(LocalFault):
        Tensor("fp32", (3,), memoryview(b"12345678"))
    with pytest.raises(LocalFault):
        pack(Tensor("bf16", (t.MAX_TENSOR_BYTES,), memoryview(bytearray(2 * t.MAX_TENSOR_BYTES))))
    with pytest.raises(LocalFault):
        pack(Tensor("bf16", (0, 4), memoryview(b"")))


@pytest.mark.parametrize(("dtype", "numpy_dtype"), [("fp32", np.float32), ("fp16", np.float16)])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_is_noticed(dtype: str, numpy_dtype: type, bad: float) -> None:
    numbers = np.array([[0.0, -1.5], [np.finfo(numpy_dtype).max, 2.0]], numpy_dtype)
    assert is_finite(Tensor(dtype, (2, 2), memoryview(numbers.tobytes())))
    numbers[1, 1] = bad
    assert not is_finite(Tensor(dtype, (2, 2), memoryview(numbers.tobytes())))


def test_what_is_no_number_is_noticed_in_bf16() -> None:
    for word, finite in ((0x7F80, False), (0xFF80, False), (0x7FC0, False), (0x7F7F, True), (0x8000, True)):
        assert is_finite(Tensor("bf16", (1,), memoryview(word.to_bytes(2, "little")))) is finite


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_ends_of_rows_are_compared_bit_by_bit(dtype):
    size = 4 if dtype == "fp32" else 2
    data = bytes(range(2 * 5 * size))
    one = Tensor(dtype, (2, 5), memoryview(data))
    for place, same in ((0, True), (2 * size, True), (3 * size, False), (5 * size - 1, False), (8 * size, False)):
        other = bytearray(data)
        other[place] ^= 1
        assert same_ends(one, Tensor(dtype, (2, 5), memoryview(other)), 2) == same
        assert same_ends(one, Tensor(dtype, (2, 5), memoryview(other)), 0)
