"""How GGUF files write architectures down: a row of data for each. llama.cpp's names of tensors, and what its files change.

Knows nothing of files, of blocks or of torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER: Mapping[str, str] = {  # within a layer: as the config's model calls it -> as it is stored
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
FUSED = {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
SANDWICHED = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
MIXTRAL_EXPERTS = {
    "block_sparse_moe.gate": "ffn_gate_inp",
    "block_sparse_moe.experts.w1": "ffn_gate_exps",
    "block_sparse_moe.experts.w3": "ffn_up_exps",
    "block_sparse_moe.experts.w2": "ffn_down_exps",
}
WHOLE = {  # names with neither .weight nor .bias in the config's model
    "self_attn.sinks": "attn_sinks.weight",
    "linear_attn.A_log": "ssm_a",
    "linear_attn.dt_bias": "ssm_dt.bias",
}
EXPERTS = {
    "mlp.gate": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp",
    "mlp.experts.gate_proj": "ffn_gate_exps",
    "mlp.experts.up_proj": "ffn_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
}
DELTA = {  # of layers that keep a state by the gated delta rule
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out",
    "post_attention_layernorm": "post_attention_norm",
}
SHARED = {  # an expert for all rows
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
ROUTER = "ffn_gate_inp"  # in layers with experts
ADDED = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")  # what the metadata would say
_NESTED = re.compile(r"^(model\.)?language_model\.")  # of a text model within another; GGUF files hold just that one
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Dialect:
    """One architecture as GGUF files hold it."""

    architecture: str  # as config.json would say
    with_experts: str | None = None  # likewise, where the file counts experts
    layer: Mapping[str, str] = field(default_factory=lambda: LAYER)
    paired: bool = False  # rotary halves of queries and keys are stored as pairs
    one_added: bool = False  # to the weights of norms, which the config's model adds itself
    partial: bool = False  # rope.dimension_count may be less than a head
    tiled: bool = False  # of delta layers each key head's first value head comes first, then all second ones

    def stored(self, name: str) -> tuple[str, int | None] | None:
        """What GGUF calls a tensor and, where experts lie on top of each other, which one it is; None where it has none."""
        name = _NESTED.sub(r"\1", name)
        whole = _LAYER.fullmatch(name)
        if whole and whole[2] in WHOLE:
            return f"blk.{whole[1]}.{WHOLE[whole[2]]}", None
        module, _, end = name.rpartition(".")
        if module in OUTER:
            return f"{OUTER[module]}.{end}", None
        found = _LAYER.fullmatch(module)
        if found is None:
            return None
        inner, expert = found[2], _EXPERT.fullmatch(found[2])
        if expert:
            inner = f"{expert[1]}.{expert[3]}"
        if inner not in self.layer:
            return None
        return f"blk.{found[1]}.{self.layer[inner]}.{end}", int(expert[2]) if expert else None


DIALECTS: Mapping[str, Dialect] = {  # by general.architecture
    "llama": Dialect(
        "LlamaForCausalLM", with_experts="MixtralForCausalLM", layer={**LAYER, **MIXTRAL_EXPERTS}, paired=True
    ),
    "qwen2": Dialect("Qwen2ForCausalLM"),
    "qwen3": Dialect("Qwen3ForCausalLM"),
    "qwen3moe": Dialect("Qwen3MoeForCausalLM", "Qwen3MoeForCausalLM", {**LAYER, **EXPERTS}),
    "qwen35": Dialect("Qwen3_5ForCausalLM", layer={**LAYER, **DELTA}, one_added=True, partial=True, tiled=True),
    "qwen35moe": Dialect(
        "Qwen3_5MoeForCausalLM",
        "Qwen3_5MoeForCausalLM",
        {**LAYER, **DELTA, **EXPERTS, **SHARED},
        one_added=True,
        partial=True,
        tiled=True,
    ),
    "gpt-oss": Dialect(
        "GptOssForCausalLM",
        "GptOssForCausalLM",
        {**LAYER, **EXPERTS, "post_attention_layernorm": "post_attention_norm"},
    ),
    "gemma2": Dialect("Gemma2ForCausalLM", layer={**LAYER, **SANDWICHED}, one_added=True),
    "gemma3": Dialect("Gemma3ForCausalLM", layer={**LAYER, **SANDWICHED}, one_added=True),
    "phi3": Dialect("Phi3ForCausalLM", layer={**LAYER, **FUSED}, partial=True),
    "granite": Dialect("GraniteForCausalLM", paired=True),
    "glm4": Dialect(
        "Glm4ForCausalLM",
        layer={
            **LAYER,
            **FUSED,
            "post_self_attn_layernorm": "post_attention_norm",
            "post_mlp_layernorm": "post_ffw_norm",
        },
        partial=True,
    ),
    "olmo2": Dialect("Olmo2ForCausalLM", layer={**LAYER, **SANDWICHED}),
}
