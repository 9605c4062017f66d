"""From layers to operations: what the kernels do, in which order, for each row that passes."""

from __future__ import annotations

from ctypes import addressof
from dataclasses import dataclass

from swarm.engine.layers.attention import Attention
from swarm.engine.layers.gated_delta import Delta
from swarm.engine.layers.mlp import Experts, Mlp, MlpAndExperts
from swarm.engine.layers.norm import Norm
from swarm.engine.layers.per_layer_inputs import TokenInput
from swarm.engine.portable.assembler import ROWS, Assembler
from swarm.engine.portable.linear import PortableLinear
from swarm.kernels.library import ACTIVATIONS, CACHES
from swarm.kernels.structures import CAttends, CAttention, CDelta, CExpert, CExperts, CRecurs
from swarm.model.spec import ModelSpec

SIGMOID = ACTIVATIONS.index("sigmoid")
EMBEDDED, TOKENS = 0, 1  # numbers of what is given besides rows, where layers take something of their tokens


@dataclass(frozen=True, slots=True)
class Lowering:
    """Puts the parts of layers together. Each method returns the register in which its answer stands."""

    spec: ModelSpec
    to: Assembler
    rows: str  # kind of rows between layers, and of those that are kept for convolutions
    cache: str  # kind of a session's keys and values

    def normed(self, norm: Norm | None, source: str, to: str) -> str:
        return source if norm is None else self.to.norm(norm, source, to)

    def add_to_rows(self, source: str, scale: float | None = None) -> None:
        if scale is not None:
            source = self.to.scale(scale, source, "adding", self.spec.hidden)
        self.to.add(ROWS, source, ROWS, self.spec.hidden)

    def attention(self, attention: Attention, cached: int, source: str) -> str:
        """`cached`: the layer whose keys and values are read, counted from the first of the span."""
        own = attention.kv_heads if attention.keys_of is None else 0
        heads, dim = attention.heads, attention.head_dim
        projected = self.to.linear(_portable(attention.qkv), source, "projected")
        turned = self._turned(attention, projected, own)
        kind = "fp32" if self.spec.both_ways else self.cache
        attends = CAttends(self._described_attention(attention, kind), cached, own > 0)
        attends.window = attention.window or 0
        answers = self.to.attend(attends, turned, "answers")
        if attention.gated:
            first = attention.qkv.shape[0] - heads * dim
            gates = self.to.activate(SIGMOID, projected, "gates", heads * dim, at=first)
            answers = self.to.multiply(answers, gates, "gated", heads * dim)
        return self.to.linear(_portable(attention.output), answers, "added")

    def _described_attention(self, attention: Attention, cache: str) -> CAttention:
        scale = attention.head_dim**-0.5 if attention.scale is None else attention.scale
        sinks = None if attention.sinks is None else self.to.pointer(attention.sinks)
        shape = (attention.heads, attention.kv_heads, attention.head_dim, CACHES.index(cache))
        return CAttention(*shape, scale, attention.softcap or 0.0, sinks)

    def _turned(self, attention: Attention, projected: str, own: int) -> str:
        """Queries, keys and values, normed and rotated."""
        dim, at = attention.head_dim, 0
        norms = [(attention.query_norm, attention.heads), (attention.key_norm, own), (attention.value_norm, own)]
        if all(norm is None for norm, _ in norms):
            if attention.rope is None:
                return projected
            rotated = attention.heads + own
            turned = self.to.rotate(attention.rope, projected, "turned", rotated, dim)
            return self.to.copy(projected, turned, own * dim, at=rotated * dim) if own else turned
        turned = "turned"
        for norm, heads in norms:
            if norm is not None and heads:
                self.to.norm(norm, projected, turned, at=at, to_at=at, width=heads * dim)
            elif heads:
                self.to.copy(projected, turned, heads * dim, at=at)
            at += heads * dim
        if attention.rope is not None:
            self.to.rotate(attention.rope, turned, turned, attention.heads + own, dim)
        return turned

    def recurring(self, delta: Delta, cached: int, source: str) -> str:
        """`cached`: its number among the layers of the span that keep a state."""
        shape = delta.shape
        tensors = (delta.taps, delta.rates, delta.step_bias, delta.norm)
        recurs = CRecurs(
            CDelta(
                *(shape.key_heads, shape.value_heads, shape.key_dim, shape.value_dim),
                *(shape.taps, CACHES.index(self.rows), delta.norm_eps),
                *(self.to.pointer(each) for each in tensors),
            ),
            cached,
        )
        projected = self.to.linear(_portable(delta.projection), source, "projected")
        return self.to.linear(_portable(delta.output), self.to.recur(recurs, projected, "answers"), "added")

    def mlp(self, mlp: Mlp, source: str) -> str:
        wide = self.to.linear(_portable(mlp.up), source, "wide")
        inner = self.activated(wide, mlp.up.shape[0], mlp.gated, mlp.limit)
        return self.to.linear(_portable(mlp.down), inner, "added")

    def activated(self, source: str, width: int, gated: bool = False, limit: float | None = None) -> str:
        kind, slope = ACTIVATIONS.index(self.spec.activation), self.spec.activation_slope or 0.0
        width, bound, offset = width // 2 if gated else width, limit or 0.0, 0.0 if limit is None else 1.0
        return self.to.activate(kind, source, "inner", width, gated=gated, limit=bound, slope=slope, offset=offset)

    def experts(self, experts: Experts, source: str, routed: str | None = None) -> str:
        described = self._described(experts)
        logits = self.to.linear(_portable(experts.router), routed or source, "logits")
        routes = self.to.route(described, logits, "routes")
        chosen = self.to.experts(described, source, routes, "chosen")
        if experts.shared is None or experts.shared_gate is None:
            return chosen
        added = self.mlp(experts.shared, source)
        gate = self.to.linear(_portable(experts.shared_gate), source, "logits")
        share = self.to.activate(SIGMOID, gate, "gates", 1)
        hidden = self.spec.hidden
        return self.to.add(chosen, self.to.multiply(added, share, "adding", hidden, by_one=True), "adding", hidden)

    def _described(self, experts: Experts) -> CExperts:
        first, each = experts.experts[0], (CExpert * len(experts.experts))()
        for place, expert in zip(each, experts.experts, strict=True):
            place.up, place.down = self.to.parted(_portable(expert.up)), self.to.parted(_portable(expert.down))
        self.to.keep += [experts, each]
        return CExperts(
            count=len(experts.experts),
            used=experts.used,
            hidden=self.spec.hidden,
            inner=first.down.shape[1],
            sum_to_one=experts.shares_sum_to_one,
            activation=ACTIVATIONS.index(self.spec.activation),
            gated=first.gated,
            limit=first.limit or 0.0,
            slope=self.spec.activation_slope or 0.0,
            offset=0.0 if first.limit is None else 1.0,
            scales=None if experts.scales is None else experts.scales.data_ptr(),
            experts=addressof(each),
        )

    def mlp_and_experts(self, both: MlpAndExperts, source: str) -> str:
        common = self.to.norm(both.end_norm, self.mlp(both.mlp, self.to.norm(both.norm, source, "normed")), "common")
        routed = self.to.norm(both.router_norm, source, "routed")
        chosen = self.experts(both.experts, self.to.norm(both.experts_norm, source, "normed"), routed)
        chosen = self.to.norm(both.experts_end_norm, chosen, "adding")
        return self.to.add(common, chosen, "adding", self.spec.hidden)

    def whichever_mlp(self, mlp: Mlp | Experts | MlpAndExperts, source: str) -> str:
        if isinstance(mlp, Mlp):
            return self.mlp(mlp, source)
        return self.experts(mlp, source) if isinstance(mlp, Experts) else self.mlp_and_experts(mlp, source)

    def token_input(self, token: TokenInput, place: int) -> None:
        """What the layer at `place` of the span adds to rows of their tokens."""
        width, hidden = token.context.shape[0], self.spec.hidden
        embedded = self.to.read(EMBEDDED, 0, "embedded", hidden)
        context = self.to.linear(_portable(token.context), embedded, "context")
        own = self.to.scale(hidden**-0.5, context, "own", width)
        own = self.to.norm(token.context_norm, own, own)
        own = self.to.add(own, self.to.read(TOKENS, place * width, "token", width), own, width)
        own = self.to.scale(2**-0.5, own, own, width)
        inner = self.activated(self.to.linear(_portable(token.gate), ROWS, "wide"), token.gate.shape[0])
        # Beyond its width the gate is zeros already, whose activation is zero
        inner = self.to.multiply(inner, own, inner, width)
        added = self.to.linear(_portable(token.output), inner, "added")
        self.add_to_rows(self.to.norm(token.end_norm, added, "adding"))


def _portable(linear: object) -> PortableLinear:
    assert isinstance(linear, PortableLinear)
    return linear
