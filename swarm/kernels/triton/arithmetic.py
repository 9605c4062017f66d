"""Functions of single numbers, and sums in the order that docs/NUMERICS.md says: lanes.h and rows.h in Triton."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(float.fromhex("0x1.715476p+0"))
ROUNDER = tl.constexpr(12582912.0)  # 1.5 * 2^23: adding it rounds to the nearest whole number, ties to even
ROUNDER_BITS = tl.constexpr(0x4B400000)
SOFTPLUS_7 = tl.constexpr(float.fromhex("0x1.1ed7c2p-3"))
SOFTPLUS_5 = tl.constexpr(float.fromhex("0x1.1ebd0cp-3"))
SOFTPLUS_3 = tl.constexpr(float.fromhex("0x1.99d208p-3"))
SOFTPLUS_1 = tl.constexpr(float.fromhex("0x1.555502p-2"))
SILU, GELU, GELU_TANH, RELU, SIGMOID, TANH, EXP = (tl.constexpr(number) for number in range(7))  # of ACTIVATIONS


@triton.jit
def exponential(x):
    held = tl.where(x > 88.0, 88.0, x)
    held = tl.where(held < -88.0, -88.0, held)
    shifted = held * LOG2_E + ROUNDER
    n = shifted - ROUNDER
    rest = tl.fma(n, 2.12194440e-4, tl.fma(n, -0.693359375, held))
    p = tl.fma(rest, 1.9875691500e-4, 1.3981999507e-3)
    p = tl.fma(p, rest, 8.3334519073e-3)
    p = tl.fma(p, rest, 4.1665795894e-2)
    p = tl.fma(p, rest, 1.6666665459e-1)
    p = tl.fma(p, rest, 5.0000001201e-1)
    p = tl.fma(p, rest * rest, rest) + 1.0
    whole = shifted.to(tl.int32, bitcast=True) - ROUNDER_BITS
    power = ((whole + 127) << 23).to(tl.float32, bitcast=True)
    return tl.where(x < -87.0, 0.0, p * power)


@triton.jit
def sigmoid(x):
    return tl.div_rn(1.0, 1.0 + exponential(x * -1.0))


@triton.jit
def hyperbolic_tangent(x):
    return 1.0 - tl.div_rn(2.0, exponential(x + x) + 1.0)


@triton.jit
def error_function(x):
    size = tl.where(x > x * -1.0, x, x * -1.0)
    t = tl.div_rn(1.0, tl.fma(size, 0.3275911, 1.0))
    p = tl.fma(t, 1.061405429, -1.453152027)
    p = tl.fma(p, t, 1.421413741)
    p = tl.fma(p, t, -0.284496736)
    p = tl.fma(p, t, 0.254829592)
    value = 1.0 - (p * t) * exponential((size * size) * -1.0)
    return value - tl.where(x * -1.0 < 0.0, 0.0, value + value)


@triton.jit
def softplus(x):
    u = exponential(tl.where(x > x * -1.0, x, x * -1.0) * -1.0)
    z = tl.div_rn(u, u + 2.0)
    square = z * z
    p = tl.fma(square, SOFTPLUS_7, SOFTPLUS_5)
    p = tl.fma(p, square, SOFTPLUS_3)
    p = tl.fma(p, square, SOFTPLUS_1)
    z = z + z
    return tl.where(x < 0.0, 0.0, x) + tl.fma(z * square, p, z)


@triton.jit
def activated(x, slope, KIND: tl.constexpr, SLOPED: tl.constexpr):
    if SLOPED:
        y = x * sigmoid(x * slope)
    elif KIND == SILU:
        y = tl.div_rn(x, 1.0 + exponential(x * -1.0))
    elif KIND == GELU:
        y = (x * 0.5) * (1.0 + error_function(x * 0.70710678118654752))
    elif KIND == GELU_TANH:
        inner = tl.fma((x * x) * x, 0.044715, x) * 0.79788456080286536
        y = (x * 0.5) * (1.0 + hyperbolic_tangent(inner))
    elif KIND == RELU:
        zero = x * 0.0
        y = tl.where(x > zero, x, zero)
    elif KIND == SIGMOID:
        y = sigmoid(x)
    elif KIND == TANH:
        y = hyperbolic_tangent(x)
    elif KIND == EXP:
        y = exponential(x)
    else:
        y = softplus(x)
    return y


@triton.jit
def halves(x, WIDTH: tl.constexpr):
    """The first half of [WIDTH], and the second."""
    return tl.split(tl.permute(tl.reshape(x, [2, WIDTH // 2]), [1, 0]))


@triton.jit
def tree16(lanes):
    """[16] -> one number: lanes i and i + 8, then 4, 2, 1."""
    low, high = halves(lanes, 16)
    low, high = halves(low + high, 8)
    low, high = halves(low + high, 4)
    low, high = tl.split(low + high)
    return low + high


@triton.jit
def halves_of_each(x, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """The first halves of [ROWS, WIDTH], and the second."""
    return tl.split(tl.permute(tl.reshape(x, [ROWS, 2, WIDTH // 2]), [0, 2, 1]))


@triton.jit
def sixteen_sums_of_each(x, ROWS: tl.constexpr):
    """[ROWS, 128] -> [ROWS]: the eight numbers of each lane from +0 on, in order; then tree16."""
    low, high = halves_of_each(x, ROWS, 128)
    first, second = halves_of_each(low, ROWS, 64)
    third, fourth = halves_of_each(high, ROWS, 64)
    a, b = halves_of_each(first, ROWS, 32)
    c, d = halves_of_each(second, ROWS, 32)
    e, f = halves_of_each(third, ROWS, 32)
    g, h = halves_of_each(fourth, ROWS, 32)
    low, high = halves_of_each((((((((a + 0.0) + b) + c) + d) + e) + f) + g) + h, ROWS, 16)
    low, high = halves_of_each(low + high, ROWS, 8)
    low, high = halves_of_each(low + high, ROWS, 4)
    low, high = tl.split(low + high)
    return low + high


@triton.jit
def half_of_bytes(low, high):
    """Two bytes of a binary16 -> binary32."""
    bits = low.to(tl.int32) | (high.to(tl.int32) << 8)
    return bits.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def bf16_bits(x):
    """binary32 -> the bits of the nearest bf16, ties to even, in the low half; what is no number stays none."""
    bits = x.to(tl.int32, bitcast=True)
    upper = (bits >> 16) & 0xFFFF
    nearest = ((bits + 0x7FFF + (upper & 1)) >> 16) & 0xFFFF
    return tl.where((bits & 0x7FFFFFFF) > 0x7F800000, upper | 0x40, nearest)


@triton.jit
def of_bf16(bits):
    """Sixteen bits -> binary32."""
    return (bits.to(tl.int32) << 16).to(tl.float32, bitcast=True)


@triton.jit
def step_of(x, MOST: tl.constexpr):
    """The step of numbers that share one, and what they are multiplied by; by 0 where all integers are 0."""
    largest = tl.max(
        x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 0
    )  # infinities and what is no number are above all numbers
    little, endless = largest < 0x0D800000, largest >= 0x7F800000
    size = tl.where(little | endless, 0x3F800000, largest).to(tl.float32, bitcast=True)
    nothing = tl.where(little, 0, 0x7FC00000).to(tl.float32, bitcast=True)
    step = tl.where(little | endless, nothing, size * (1.0 / MOST))
    return step, tl.where(little | endless, 0.0, tl.div_rn(MOST * 1.0, size))


@triton.jit
def integers_of(x, inverse):
    """Rounded to nearest even; 0 where the inverse is 0."""
    shifted = x * inverse + ROUNDER
    return tl.where(inverse == 0.0, 0, shifted.to(tl.int32, bitcast=True) - ROUNDER_BITS)
