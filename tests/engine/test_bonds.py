"""Layers that use the keys and values of others stand on one worker with them: whatever else is asked for is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from support.families import CONFIGS

from swarm.engine import Stage
from swarm.errors import ModelFault, UsageFault
from swarm.model.spec import ModelSpec
from swarm.span import LayerSpan

SHARED = CONFIGS["gemma4-shared"]  # five layers, of which 3 and 4 use the keys and values of 2 and 1


def spec_of(**changes: Any) -> ModelSpec:
    return ModelSpec.from_config({**SHARED, **changes})


@pytest.mark.parametrize(
    ("layers", "shared", "types", "bonds"),
    [
        (5, 2, "sfsff", [LayerSpan(1, 5)]),
        (5, 0, "sfsff", []),
        (5, 1, "sfsff", [LayerSpan(3, 5)]),
        (6, 2, "fsssff", [LayerSpan(0, 6)]),
        (35, 20, "ssssf" * 7, [LayerSpan(13, 35)]),
    ],
)
def test_bonds_reach_from_the_layers_whose_keys_are_used(
    layers: int, shared: int, types: str, bonds: list[LayerSpan]
) -> None:
    named = [{"s": "sliding_attention", "f": "full_attention"}[each] for each in types]
    spec = spec_of(num_hidden_layers=layers, num_kv_shared_layers=shared, layer_types=named)
    assert list(spec.bonds) == bonds


@pytest.mark.parametrize(
    ("span", "between"),
    [
        (LayerSpan(0, 2), "layers 0-1 cannot be served: between layers 1 and 2 .* layer 4 uses .* of layer 1"),
        (LayerSpan(3, 5), "layers 3-4 cannot be served: between layers 2 and 3 .* layer 3 uses .* of layer 2"),
        (LayerSpan(2, 4), "layers 2-3 cannot be served: between layers 1 and 2 this model cannot be cut"),
    ],
)
def test_a_boundary_at_which_it_cannot_be_cut_is_named(span: LayerSpan, between: str) -> None:
    spec = spec_of()
    with pytest.raises(ModelFault, match=f"^here: {between}.*all of layers 1-4 or .* none"):
        spec.check_span(span, "here")
    with pytest.raises(ModelFault, match=between):
        Stage.random(spec, span)


@pytest.mark.parametrize("span", [LayerSpan(0, 1), LayerSpan(1, 5), LayerSpan(0, 5)])
def test_other_spans_are_served(span: LayerSpan) -> None:
    stage = Stage.random(spec_of(), span)
    stage.open(10).close()
    assert spec_of().check_span(span, "here") == span


def test_a_session_takes_all_of_them_or_none() -> None:
    stage = Stage.random(spec_of(), LayerSpan(0, 5))
    stage.open(10, LayerSpan(0, 1)).close()
    for span in (LayerSpan(0, 3), LayerSpan(2, 5)):
        with pytest.raises(UsageFault, match=f"layers {span}: of layers 1-4 it takes all or none"):
            stage.open(10, span)


def test_layers_that_share_keys_keep_none() -> None:
    whole, alone = (Stage.random(spec_of(num_kv_shared_layers=count), LayerSpan(0, 5)) for count in (2, 0))
    assert whole.pool.row_bytes(LayerSpan(3, 5)) == 0
    assert whole.pool.row_bytes(LayerSpan(0, 3)) == alone.pool.row_bytes(LayerSpan(0, 3))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_kv_shared_layers": 5}, "num_kv_shared_layers: 5 is no whole number from 0 to 4"),
        ({"num_kv_shared_layers": 4, "layer_types": ["full_attention", *["sliding_attention"] * 3, "full_attention"]},
         "num_kv_shared_layers: no layer before layer 1 is of sliding_attention"),
        ({"per_layer_config": {"7": {"head_dim": 8}}}, "per_layer_config: '7'"),
        ({"per_layer_config": {"1": {"intermediate_size": 8}}}, "per_layer_config: layer 1: intermediate_size"),
        ({"per_layer_config": {"1": {"head_dim": 8}}}, "per_layer_config: layers of full_attention"),
        ({"per_layer_config": {"1": {"num_key_value_heads": 3}}}, "num_key_value_heads: 3 does not divide"),
        ({"per_layer_config": {"1": {"head_dim": 0}}}, "per_layer_config of layer 1: head_dim: 0"),
        ({"per_layer_config": []}, "per_layer_config: \\[\\] is no object"),
        ({"global_head_dim": 31}, "head_dim: 31 is odd"),
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention: 'all' is not supported"),
        ({"hidden_size_per_layer_input": 8}, "vocab_size_per_layer_input: 262144, but the vocabulary has 288"),
        ({"hidden_size_per_layer_input": None}, "vocab_size_per_layer_input: 262144, but the vocabulary has 288"),
        ({"hidden_size_per_layer_input": -1}, "hidden_size_per_layer_input: -1 is no whole number from 0"),
    ],
)  # fmt: skip
def test_what_a_config_cannot_mean_is_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelFault, match=complaint):
        spec_of(**changes)
