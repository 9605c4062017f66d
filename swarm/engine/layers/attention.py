"""Attention of one layer: from a row to queries, keys and values, and from what they answer to a row.

Knows nothing of caches, nor of how rows pass: the pass stores and attends (see swarm.engine.layers.passes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from swarm.engine.layers.linear import Linear
from swarm.engine.layers.norm import Norm

FUSED = ("cpu",)  # devices whose kernel for attention says by what it divided


class Attending(Protocol):
    """What a pass computes with."""

    def linear(self, linear: Linear, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]"""

    def each(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """[rows, width] -> [rows, width], entry by entry"""

    def rotate(self, heads: Tensor, rope: int) -> Tensor:
        """[rows, heads, head_dim], each turned by its row's position."""

    def attend(self, attention: Attention, layer: int, queries: Tensor, keys_values: Tensor) -> Tensor:
        """Store [rows, 2, kv_heads, head_dim], unless they are that layer's already; answer [rows, heads, head_dim] with
        [rows, heads * head_dim]."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Each row asks the rows before it and itself (Vaswani et al., 2017), heads sharing keys (Ainslie et al., 2023)."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None  # rows that a row sees, itself among them; None: all before it
    rope: int | None  # which of the model's ropes; None: nothing is turned
    qkv: Linear  # hidden -> (heads + 2 * kv_heads) * head_dim; with gates, heads * head_dim more; keys may be another's
    query_norm: Norm | None  # of head_dim, or of heads * head_dim where all heads are normed together
    key_norm: Norm | None
    value_norm: Norm | None
    output: Linear  # heads * head_dim -> hidden
    answer: Callable[..., Tensor]  # (queries, keys, values, mask or None, scale=), [1, heads, rows, head_dim] each
    sinks: Tensor | None  # as sink_attention takes them
    scale: float | None  # of products of queries and keys; None: head_dim ** -0.5
    softcap: float | None = None  # products stay between it and its negative
    distances: Tensor | None = None  # as distance_biases takes them
    gated: bool = False  # what queries are answered is multiplied by gates, through a sigmoid
    keys_of: int | None = None  # the layer that made the keys and values; None: this one makes its own

    @property
    def bytes(self) -> int:
        norms = sum(each.bytes for each in (self.query_norm, self.key_norm, self.value_norm) if each is not None)
        tables = sum(each.nbytes for each in (self.sinks, self.distances) if each is not None)
        return self.qkv.bytes + self.output.bytes + norms + tables

    def compute(self, way: Attending, layer: int, x: Tensor) -> Tensor:
        """[rows, hidden] -> [rows, hidden]"""
        own = self.kv_heads if self.keys_of is None else 0
        rotated = self.heads + own  # queries and keys; values are not
        everything = way.linear(self.qkv, x)
        qkv = everything[:, : (rotated + own) * self.head_dim]
        qkv = qkv.view(-1, rotated + own, self.head_dim)
        if self.query_norm is not None:
            qkv[:, : self.heads] = self.query_norm.compute_heads(qkv[:, : self.heads])
        if self.key_norm is not None:
            qkv[:, self.heads : rotated] = self.key_norm.compute_heads(qkv[:, self.heads : rotated])
        if self.value_norm is not None:
            qkv[:, rotated:] = self.value_norm.compute_heads(qkv[:, rotated:])
        if self.rope is not None:
            qkv[:, :rotated] = way.rotate(qkv[:, :rotated], self.rope)
        queries = qkv[:, : self.heads]  # [rows, heads, head_dim]
        keys_values = qkv[:, self.heads :].view(x.shape[0], 2, own, self.head_dim)  # [rows, 2, kv_heads, head_dim]
        answers = way.attend(self, layer if self.keys_of is None else self.keys_of, queries, keys_values)
        if self.gated:
            answers = answers * way.each(torch.sigmoid, everything[:, -answers.shape[1] :])
        return way.linear(self.output, answers)


def capped_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float | None, softcap: float
) -> Tensor:
    """Attention whose products of queries and keys are held between softcap and its negative before they are masked."""
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    # Copied, so that the capacity of a cache, which decides strides, decides no kernel
    products = torch.matmul(queries * scale, keys.contiguous().transpose(-1, -2)).float()
    products = torch.tanh(products / softcap) * softcap
    if mask is not None:
        products = products + mask
    return torch.matmul(products.softmax(-1).to(values.dtype), values.contiguous())


def sink_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float | None, sinks: Tensor
) -> Tensor:
    """Attention whose softmax counts one logit more for each head, which answers nothing (Miller, 2023).

    `sinks` are these in fp32, [kv_heads, heads / kv_heads]; a key's queries, of several heads, stand below each other.
    """
    answer, sums = _answer_and_sums(queries, keys, values, mask, scale)
    of_each = sinks.repeat_interleave(queries.shape[2] // sinks.shape[1], 1)  # [kv_heads, heads / kv_heads * rows]
    share = torch.sigmoid(sums - of_each)  # of the softmax's sum, what is not the sink's
    return (answer.float() * share.unsqueeze(-1)).to(queries.dtype)


def _answer_and_sums(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    """Plain attention, and the logarithms of its softmax's sums, [1, kv_heads, rows] in fp32."""
    if queries.device.type in FUSED:  # the kernel of scaled_dot_product_attention, which throws them away
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return flash(queries, keys, values, attn_mask=mask, scale=scale)  # type: ignore[no-any-return]
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    keys, values = keys.float().contiguous(), values.float().contiguous()  # copied as in capped_attention
    products = torch.matmul(queries.float() * scale, keys.transpose(-1, -2))
    if mask is not None:
        products = products + mask
    return torch.matmul(products.softmax(-1), values), products.logsumexp(-1)
