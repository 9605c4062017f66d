"""Encoders in the manner of BERT: rows see each other both ways, norms follow the sums, positions have a table."""

from __future__ import annotations

from dataclasses import replace

from swarm.engine.families.family import Family

HEADS = ("MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering", "MultipleChoice")

BERT = Family(
    architecture="BertModel",
    model_type="bert",
    also=("BertForPreTraining", "BertForNextSentencePrediction", *(f"BertFor{head}" for head in HEADS)),
    required={"position_embedding_type": "absolute", "is_decoder": False},
    optional_prefix="bert.",
    both_ways=True,
    embedding="bert.embeddings.word_embeddings",
    embedding_norm="bert.embeddings.LayerNorm",
    positions="bert.embeddings.position_embeddings",
    token_types="bert.embeddings.token_type_embeddings",
    final_norm=None,
    head=None,
    layer="bert.encoder.layer.{layer}",
    attention_norm=None,
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    attention_sum_norm="attention.output.LayerNorm",
    mlp_norm=None,
    gate=None,
    up="intermediate.dense",
    down="output.dense",
    mlp_sum_norm="output.LayerNorm",
    centred_norms=True,
    norm_bias=True,
    norm_eps="layer_norm_eps",
    rotary=False,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    defaults={
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "tie_word_embeddings": True,
    },
)

ROBERTA = replace(
    BERT,
    architecture="RobertaModel",
    model_type="roberta",
    also=tuple(f"RobertaFor{head}" for head in HEADS),
    optional_prefix="roberta.",
    embedding="roberta.embeddings.word_embeddings",
    embedding_norm="roberta.embeddings.LayerNorm",
    positions="roberta.embeddings.position_embeddings",
    positions_after_pad=True,
    token_types="roberta.embeddings.token_type_embeddings",
    layer="roberta.encoder.layer.{layer}",
    defaults={**BERT.defaults, "vocab_size": 50265, "pad_token_id": 1},
)

XLM_ROBERTA = replace(
    ROBERTA,
    architecture="XLMRobertaModel",
    model_type="xlm-roberta",
    also=tuple(f"XLMRobertaFor{head}" for head in HEADS),
    defaults={**ROBERTA.defaults, "vocab_size": 30522},
)

DISTILBERT = Family(
    architecture="DistilBertModel",
    model_type="distilbert",
    also=tuple(f"DistilBertFor{head}" for head in HEADS),
    optional_prefix="distilbert.",
    both_ways=True,
    embedding="distilbert.embeddings.word_embeddings",
    embedding_norm="distilbert.embeddings.LayerNorm",
    positions="distilbert.embeddings.position_embeddings",
    final_norm=None,
    head=None,
    layer="distilbert.transformer.layer.{layer}",
    attention_norm=None,
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    output="attention.out_lin",
    attention_sum_norm="sa_layer_norm",
    mlp_norm=None,
    gate=None,
    up="ffn.lin1",
    down="ffn.lin2",
    mlp_sum_norm="output_layer_norm",
    centred_norms=True,
    norm_bias=True,
    norm_eps="layer_norm_eps",
    rotary=False,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    spellings={
        "dim": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "hidden_dim": "intermediate_size",
        "activation": "hidden_act",
    },
    defaults={**BERT.defaults, "num_hidden_layers": 6},
)
