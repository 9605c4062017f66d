"""What a model family is: where its tensors stand in a checkpoint, and how its config.json is to be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Windows = Literal["none", "all", "late", "pattern", "after_full"]


@dataclass(frozen=True, slots=True)
class Stack:
    """The experts of a layer on top of each other in one tensor: [experts, outputs, inputs]. Biases end in _bias."""

    gate_up: str = "mlp.experts.gate_up_proj"  # gates, then ups
    down: str = "mlp.experts.down_proj"
    by_input: bool = False  # [experts, inputs, outputs]
    alternating: bool = False  # each gate has its up beside it
    router: str | None = None  # what the router is called then, if not as it is otherwise
    always: bool = False  # there is no other way to store them


@dataclass(frozen=True, slots=True)
class TokenTables:
    """What layers take of a row's token itself; the modules of all layers, then those within each."""

    width: str  # the field with the numbers that each layer takes; 0: none
    vocab: str  # the field with the rows of the table
    table: str  # those of all layers beside each other
    context: str  # from an embedded row to as many
    context_norm: str
    gate: str
    output: str
    end_norm: str


@dataclass(frozen=True, slots=True)
class Variant:
    """What a config.json says that makes its model's row another one in some fields."""

    says: Mapping[str, Any]  # fields of config.json, all of them with these values
    changes: Mapping[str, Any]  # fields of Family


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family keeps its tensors, and how its config.json is to be read."""

    architecture: str  # as in the config's "architectures"
    model_type: str  # as in the config's "model_type"
    also: tuple[str, ...] = ()  # architectures that differ from it in their heads only
    required: Mapping[str, Any] = field(default_factory=dict)  # what fields must say, where they say anything
    optional_prefix: str = ""  # of tensors' names, which some checkpoints leave out
    both_ways: bool = False  # a row sees those after it too: a text goes through at once, and nothing is cached
    embedding: str = "model.embed_tokens"  # modules, each with .weight and perhaps .bias
    embedding_width: str | None = None  # the field, where the table's rows may be of another width than those of layers
    embedding_projection: str | None = None  # from that width to theirs
    embedding_norm: str | None = None  # of embedded rows
    positions: str | None = None  # a table of what is added to embedded rows, by position
    position_offset: int = 0  # rows of that table before the first position's
    positions_after_pad: bool = False  # these are the ones up to pad_token_id's, and the context's length counts them
    token_types: str | None = None  # a table whose first row is added to all embedded rows
    final_norm: str | None = "model.norm"
    head_projection: str | None = None  # of rows to the width of the embedding
    head: str | None = "lm_head"
    layer: str = "model.layers.{layer}"
    attention_norm: str | None = "input_layernorm"  # within a layer; before attention
    first_unnormed: bool = False  # but not in the model's first layer
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    query_key_value: str | None = None  # instead of these three: one tensor that holds them below each other
    grouped_by_key: bool = False  # it holds for each key its queries, the key and the value below each other
    transposed: bool = False  # linear weights of layers stand as [in, out]
    query_norm: str | None = None  # before rotation
    key_norm: str | None = None
    value_norm: bool = False  # each head of values is normed too, without weights
    norm_whole_width: bool = False  # all heads of a row are normed together, not each for itself
    output: str = "self_attn.o_proj"
    attention_gate: bool = False  # each head's query is followed by what its answer is multiplied by, through a sigmoid
    delta: str | None = None  # what some layers have instead of attention: below it are these inputs, and its own names
    delta_inputs: tuple[str, ...] = ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a")
    delta_by_key_head: bool = False  # inputs hold one key head's parts after the other's
    sinks: str | None = None  # a logit for each head, which takes part in attention's softmax and answers nothing
    distances: str | None = None  # a table for all layers: what products get by how far apart rows stand
    attention_end_norm: str | None = None  # after attention, before its result is added
    attention_sum_norm: str | None = None  # after it is added
    mlp_norm: str | None = "post_attention_layernorm"
    gate: str | None = "mlp.gate_proj"  # None: an activation alone stands between up and down
    up: str = "mlp.up_proj"
    gate_up: str | None = None  # instead of these two: one tensor that holds them below each other
    down: str = "mlp.down_proj"
    mlp_end_norm: str | None = None
    mlp_sum_norm: str | None = None
    token_tables: TokenTables | None = None
    layer_scale: str | None = None  # a tensor of one number that rows are multiplied by at the layer's end
    parallel: bool | str = False  # or the field that says so: attention and MLP read the same rows
    router: str | None = None  # instead of one MLP there are several, of which it chooses for each row
    expert: str = "mlp.experts.{expert}"  # one of them; below it are the three that follow
    expert_gate: str = "gate_proj"
    expert_up: str = "up_proj"
    expert_down: str = "down_proj"
    expert_scales: str | None = None  # a tensor of one number for each, that its share is multiplied by
    mlp_beside_experts: bool = False  # layers with experts have an MLP for all rows too: below are norms of these
    beside_end_norm: str | None = None  # of what that MLP gives
    router_norm: str = ""  # the weight's name; it is divided by the root of the rows' width
    experts_norm: str | None = None
    experts_end_norm: str | None = None
    expert_inner: str = "moe_intermediate_size"  # the field
    shared_expert: str | None = None  # one more, for all rows; below it are the same three
    shared_gate: str = "mlp.shared_expert_gate"  # whose sigmoid it is multiplied by
    shared_inner: str = "shared_expert_intermediate_size"  # the field
    expert_stack: Stack | None = None  # where experts lie if those of a layer are stored in one
    shares_sum_to_one: bool | str = "norm_topk_prob"  # or the field that says so: of the chosen experts
    norm_offset: float = 0.0  # is added to the weights of all norms
    norm_eps: str | float = "rms_norm_eps"  # the field, or what it is
    centred_norms: bool = False  # LayerNorm; else by the root mean square
    norm_bias: bool = False
    norm_weight: bool = True  # what norms scale by is stored; else they do not scale
    kv_heads: int | None = None  # whatever the config says
    alibi: bool = False  # products of queries and keys fall off with distance
    alibi_before_scale: bool = False  # by biases that are taken in bf16 and scaled as products are
    rotary: bool = True  # queries and keys are turned by their position
    interleaved: bool = False  # rotated pairs stand beside each other, not half a head apart
    qkv_bias: bool | str = "attention_bias"  # whether there is one, or the field that says so
    output_bias: bool | str = "attention_bias"
    mlp_bias: bool | str = "mlp_bias"
    router_bias: bool | str = False
    expert_bias: bool | str = False
    activation: str = "hidden_act"  # the field
    activation_slope: str | None = None  # the field: gates pass through gate * sigmoid(slope * gate)
    gate_limit: str | None = None  # the field: gates stay below it, ups between it and its negative, and one is added
    windows: Windows = "none"  # layers with a sliding window, where "layer_types" does not say
    last_full: bool = False  # the last layer sees everything, whatever the config says
    full_head_dim: str | None = None  # the field with the head_dim of layers that see everything, if it is their own
    keys_as_values: str | None = None  # the field that says whether in those layers keys serve as values too
    full_kv_heads: str | None = None  # the field with their num_key_value_heads, if they do
    sharing_layers: str | None = None  # the field with how many last layers use the keys and values of layers before
    sharing_doubles: str | None = None  # the field that says whether these have MLPs of twice the width
    local_theta: str | None = None  # the field with the rotary base of layers with a window, if it is their own
    attention_scale: str | float | None = None  # what products of queries and keys are multiplied by, or its field
    scale_by_depth: bool | str = False  # or the field that says so: in layer n they are divided by n + 1 besides
    attention_width: str | None = None  # the field that stands for head_dim in this
    softcaps: bool = False  # of attention and logits, where the config states them
    embedding_by_width: bool = False  # embedded rows are multiplied by the root of their width
    embedding_scale: str | None = None  # fields likewise
    residual_scale: str | None = None  # for what attention and MLP add
    logit_divisor: str | None = None
    inner_per_hidden: int | None = None  # the MLP's width in rows' widths, where the config does not state it
    spellings: Mapping[str, str] = field(default_factory=dict)  # its names of fields -> those used here
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of config.json, where it omits a key
    variants: tuple[Variant, ...] = ()  # applied in this order


COMMON: Mapping[str, Any] = {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}
