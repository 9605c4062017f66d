"""Norms, activations, softmax, rotation and turns: near torch's in fp64, and the same bits on every path."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from swarm.kernels import Library

ROWS = 5
ANGLES = torch.cat((torch.arange(-600, 601) / 64, torch.tensor([1e4, 131071.5, 1e6]))).double()
WIDTHS = (1, 15, 64, 100, 344)
BOUNDED = {"limit": 2.0, "slope": 1.702, "offset": 1.0}
# SHA-256 over all of `everything`: other bits are another standard
GOLDEN = "50cca7042b2db6c41744d43971f60ae8b22bfb70fe1da9efd9abf1ddbea6a575"
GOLDEN_POWERS = {  # of what the gated delta rule fades by
    "exp": "21f01e434db86d47553b2efafc51a46f961f9cef5c54ec18139faecd484dd6b1",
    "softplus": "29ade9a48af8ec41dc3dcaf3eba96d3029512e84a43c6f0a07dbb5438537f61f",
}


def numbers_of(*shape: int) -> Tensor:
    """Of whole numbers, since normal draws differ in their last digit between machines."""
    drawn = np.random.default_rng(sum(shape)).integers(-(1 << 15), 1 << 15, shape)
    return torch.from_numpy(drawn).float() / 4096


def normed(kernels: Library, x: Tensor, centred: bool) -> Tensor:
    out, weight, bias = torch.empty_like(x), numbers_of(x.shape[1]), numbers_of(x.shape[1] + 1)[1:].clone()
    shift = bias.data_ptr() if centred else None
    width = x.shape[1]
    kernels.norm(x.data_ptr(), width, x.shape[0], width, weight.data_ptr(), shift, 1e-5, centred, out.data_ptr(), width)
    return out


def activated(kernels: Library, x: Tensor, kind: str, **given: float | bool) -> Tensor:
    width = x.shape[1] // 2 if given.get("gated") else x.shape[1]
    out = torch.empty(x.shape[0], width)
    kernels.activation(x.data_ptr(), x.stride(0), x.shape[0], width, kind, out.data_ptr(), **{"gated": False, **given})  # type: ignore[arg-type]
    return out


def softmaxed(kernels: Library, x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    kernels.softmax(x.data_ptr(), x.stride(0), *x.shape, out.data_ptr())
    return out


def everything(kernels: Library) -> list[Tensor]:
    found = []
    for width in WIDTHS:
        x = numbers_of(ROWS, width)
        found += [normed(kernels, x, centred) for centred in (False, True)]
        found += [activated(kernels, x, kind) for kind in EXPECTED]
        found += [softmaxed(kernels, x)]
    x = numbers_of(ROWS, 200)
    found += [
        activated(kernels, x, "silu", gated=True),
        activated(kernels, x, "silu", gated=True, **BOUNDED),
    ]
    heads = numbers_of(ROWS, 3 * 20)
    cos, sin = numbers_of(ROWS, 10), numbers_of(10, ROWS).T.contiguous()
    kernels.rotate(heads.data_ptr(), 60, ROWS, 3, 20, cos.data_ptr(), sin.data_ptr())
    return [*found, heads, *turns(kernels)]


def turns(kernels: Library) -> tuple[Tensor, Tensor]:
    angles = ANGLES[:, None].repeat(1, 2).contiguous()
    cos, sin, factors = torch.empty(len(angles), 2), torch.empty(len(angles), 2), torch.tensor([1.0, 0.5]).double()
    kernels.turns(angles.data_ptr(), factors.data_ptr(), len(angles), 2, cos.data_ptr(), sin.data_ptr())
    return cos, sin


EXPECTED: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def test_one_set_of_bits(kernels: Library) -> None:
    expected = None
    for path in kernels.paths():
        kernels.choose(path)
        found = [each.view(torch.int32).clone() for each in everything(kernels)]
        expected = expected or found
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True)), path


def test_golden_bits(kernels: Library) -> None:
    found = hashlib.sha256(b"".join(each.contiguous().numpy().tobytes() for each in everything(kernels)))
    assert found.hexdigest() == GOLDEN


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_norms(kernels: Library, width: int) -> None:
    x = numbers_of(ROWS, width)
    weight, bias = numbers_of(width).double(), numbers_of(width + 1)[1:].double()
    for centred, exact in (
        (False, functional.rms_norm(x.double(), (width,), weight, 1e-5)),
        (True, functional.layer_norm(x.double(), (width,), weight, bias, 1e-5)),
    ):
        torch.testing.assert_close(normed(kernels, x, centred).double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", EXPECTED)
def test_activations(kernels: Library, kind: str) -> None:
    x = torch.cat((torch.linspace(-30, 30, 4001), torch.tensor([-100.0, 100.0, 0.0, -0.0, 1e-30])))[None]
    found, exact = activated(kernels, x, kind).double(), EXPECTED[kind](x.double())
    torch.testing.assert_close(found, exact, rtol=2e-6, atol=3e-6)


@pytest.mark.parametrize("kind", GOLDEN_POWERS)
def test_powers(kernels: Library, kind: str) -> None:
    steps = torch.arange(-86 * 64, 86 * 64 + 1) / 64
    x = torch.cat((steps, numbers_of(1, 2000)[0], torch.tensor([-0.0, 1e-30, 1000.0, -1000.0, torch.inf, -torch.inf])))
    seen = []
    for path in kernels.paths():
        kernels.choose(path)
        seen.append(activated(kernels, x[None], kind)[0])
    assert all(torch.equal(each, seen[0]) for each in seen)
    assert hashlib.sha256(seen[0].numpy().tobytes()).hexdigest() == GOLDEN_POWERS[kind]
    known = {"exp": lambda x: x.clamp(max=88).exp(), "softplus": lambda x: x.clamp(min=0) + x.abs().neg().exp().log1p()}
    torch.testing.assert_close(seen[0].double(), known[kind](x.double()), rtol=4e-7, atol=0)
    assert activated(kernels, torch.tensor([[torch.nan]]), kind).isnan().all()


def test_gates_are_bounded(kernels: Library) -> None:
    x = numbers_of(ROWS, 200)
    gate, up = x.double().chunk(2, 1)
    exact = gate.clamp(max=2) * torch.sigmoid(1.702 * gate.clamp(max=2)) * (up.clamp(-2, 2) + 1)
    found = activated(kernels, x, "silu", gated=True, **BOUNDED).double()
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_softmax(kernels: Library) -> None:
    x = numbers_of(ROWS, 100)
    torch.testing.assert_close(softmaxed(kernels, x).double(), x.double().softmax(-1), rtol=1e-5, atol=1e-7)


def test_turns(kernels: Library) -> None:
    cos, sin = turns(kernels)
    assert (cos[:, 0].double() - ANGLES.cos()).abs().max() < 1e-7
    assert (sin[:, 1].double() - ANGLES.sin() / 2).abs().max() < 1e-7
