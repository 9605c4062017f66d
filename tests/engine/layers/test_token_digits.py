"""Token ids that travel with rows: exact in every precision, and harmless whatever comes."""

from __future__ import annotations

import pytest
import torch
from support.families import CONFIGS

from swarm.engine import PRECISIONS, Head, Stage
from swarm.engine.layers.token_digits import ids_of, with_ids
from swarm.model.spec import ModelSpec

SPEC = ModelSpec.from_config(CONFIGS["gemma4-tokens"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ids_come_back_as_they_went(dtype: torch.dtype) -> None:
    ids = [0, 1, 255, 256, 257, 65535, 65536, 262143, (1 << 24) - 1]
    rows = torch.randn(len(ids), 5).to(dtype)
    both = with_ids(rows, ids)
    assert both.dtype == dtype
    assert torch.equal(both[:, :5], rows)
    assert ids_of(both[:, 5:], 1 << 24) == ids


def test_what_no_client_sends_is_some_id() -> None:
    digits = torch.tensor([[torch.nan, torch.inf, -torch.inf], [-3.0, 0.5, 1e30], [0.99999, 0.0, 0.0], [0.0, 0.0, 9.0]])
    assert all(0 <= id_ < SPEC.vocab for id_ in ids_of(digits, SPEC.vocab))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_are_wider_by_them_and_layers_leave_them_as_they_are(precision: str) -> None:
    stage, head = Stage.random(SPEC, SPEC.span, precision), Head.random(SPEC, precision)
    ids = [7, 280, 0, 255]
    rows = head.embed(ids, 0)
    assert rows.shape == (4, SPEC.width) == (4, SPEC.hidden + 3)
    for outputs in (stage.chunk(stage.open(10), rows), stage.decode([(stage.open(10), rows)])[0]):
        assert torch.equal(outputs[:, SPEC.hidden :], rows[:, SPEC.hidden :])
        assert not torch.equal(outputs[:, : SPEC.hidden], rows[:, : SPEC.hidden])
        assert head.logits(outputs).shape == (4, SPEC.vocab)
        assert torch.equal(head.rows(head.tensor(outputs)), outputs)


def test_ids_decide_what_layers_give() -> None:
    stage, head = Stage.random(SPEC, SPEC.span, "fp32"), Head.random(SPEC, "fp32")
    rows = head.embed([7], 0)
    others = torch.cat((rows[:, : SPEC.hidden], head.embed([8], 0)[:, SPEC.hidden :]), 1)
    one, other = (stage.chunk(stage.open(4), each)[:, : SPEC.hidden] for each in (rows, others))
    assert not torch.equal(one, other)
