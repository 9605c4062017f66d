"""Sampling: the filters against transformers' own, the draws against the distribution, nothing but the key deciding them."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from swarm.engine.sampler import _draw, _kept, _penalised, log_probabilities, sample, uniform
from swarm.errors import LocalFault, UsageFault
from swarm.sampling import Sampling

VOCAB = 503


def logits_of(seed: int, size: int = VOCAB) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3


def expected(logits: torch.Tensor, sampling: Sampling, history: list[int]) -> torch.Tensor:
    """Probabilities [vocab] as transformers makes them."""
    steps: list[Any] = []
    if sampling.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    steps.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        steps.append(MinPLogitsWarper(sampling.min_p))
    scores = logits[None].double()  # the filters' sums in float32 would decide borderline tokens otherwise
    ids = torch.tensor([history])
    for step in steps:
        scores = step(ids, scores)
    return scores[0].softmax(-1)


def ours(logits: torch.Tensor, sampling: Sampling, history: list[int]) -> torch.Tensor:
    scores = _penalised(logits.numpy(), history, sampling.repetition_penalty)
    ids, weights = _kept(scores, sampling, float(scores.max()))
    probabilities = np.zeros(logits.numel())
    probabilities[ids] = weights / weights.sum()
    return torch.from_numpy(probabilities)


@given(
    st.integers(0, 1000),
    st.sampled_from([0.3, 0.8, 1.0, 1.7]),
    st.sampled_from([0, 1, 2, 40, VOCAB, 2 * VOCAB]),
    st.sampled_from([1.0, 0.05, 0.5, 0.9, 0.999]),
    st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    st.sampled_from([1.0, 1.3, 0.7]),
)
@settings(max_examples=100)
def test_the_filters_are_those_of_transformers(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float, penalty: float
) -> None:
    sampling = Sampling(temperature, top_k, top_p, min_p, penalty)
    history = [3, 3, 7, 100, seed % VOCAB, VOCAB - 1]
    logits = logits_of(seed)
    torch.testing.assert_close(
        ours(logits, sampling, history), expected(logits, sampling, history), atol=1e-6, rtol=1e-5
    )


def test_draws_follow_the_distribution() -> None:
    logits = logits_of(5, 12)
    sampling = Sampling(temperature=1.0, seed=11)
    count = 4000
    drawn = Counter(sample(logits, sampling, [], position) for position in range(count))
    for token, probability in enumerate(logits.double().softmax(-1).tolist()):
        deviation = (count * probability * (1 - probability)) ** 0.5
        assert abs(drawn[token] - count * probability) <= 4 * deviation + 1


def test_only_seed_choice_and_position_decide() -> None:
    logits = logits_of(2)
    hot = Sampling(temperature=1.5, seed=9)
    before = [sample(logits, hot, [], position) for position in range(40)]
    torch.manual_seed(123)
    torch.rand(5)
    np.random.default_rng().random()
    assert [sample(logits, hot, [1, 2, 3], position) for position in reversed(range(40))] == before[::-1]
    assert [sample(logits, hot, [], position, choice=1) for position in range(40)] != before
    assert [sample(logits, Sampling(temperature=1.5, seed=10), [], position) for position in range(40)] != before
    assert torch.equal(logits, logits_of(2)), "the logits are left as they were"


def test_the_generator_stays_what_it_is() -> None:
    """Changing it would change every seeded answer ever given."""
    assert uniform(0, 0, 0) == pytest.approx(0.054334834588382064, abs=0)
    assert uniform(1, 2, 3) == pytest.approx(0.20134305492836557, abs=0)
    assert uniform(-1, 0, 0) == uniform((1 << 64) - 1, 0, 0)
    digest = hashlib.sha256(b"swarm-draw-1\0" + bytes(24)).digest()
    assert uniform(0, 0, 0) == int.from_bytes(digest[:8], "little") // (1 << 11) / 2.0**53
    many = [uniform(7, 0, position) for position in range(2000)]
    assert len(set(many)) == 2000
    assert all(0 <= number < 1 for number in many)
    assert abs(sum(many) / 2000 - 0.5) < 0.03


class TestGreedy:
    def test_of_equal_ones_the_lowest_id(self) -> None:
        logits = torch.zeros(1000)
        logits[[700, 40, 999]] = 5.0
        assert sample(logits, Sampling(), [], 0) == 40

    def test_filters_leave_the_likeliest(self) -> None:
        logits = logits_of(3)
        assert sample(logits, Sampling(top_p=0.1, top_k=3, min_p=0.5), [], 0) == int(logits.argmax())

    def test_the_penalty_counts(self) -> None:
        logits = torch.tensor([2.0, 1.9, -1.0])
        assert sample(logits, Sampling(repetition_penalty=1.5), [0, 0], 0) == 1
        assert sample(-logits, Sampling(repetition_penalty=9.0), [2], 0) == 2
        assert sample(-logits, Sampling(repetition_penalty=9.0), [], 0) == 2

    def test_a_nearly_frozen_temperature_is_greedy(self) -> None:
        logits = logits_of(4)
        assert sample(logits, Sampling(temperature=1e-9), [], 0) == int(logits.argmax())

    def test_other_dtypes_are_taken(self) -> None:
        assert sample(torch.tensor([0.0, 3.0, 1.0], dtype=torch.bfloat16), Sampling(), [], 0) == 1


class TestEdges:
    def test_equal_weights_at_the_edge_of_the_nucleus_keep_the_lowest_ids(self) -> None:
        ids, _ = _kept(np.zeros(10, dtype=np.float32), Sampling(temperature=1.0, top_p=0.35), 0.0)
        assert ids.tolist() == [0, 1, 2, 3]

    def test_top_k_keeps_what_is_as_likely_as_the_last(self) -> None:
        scores = np.array([1, 5, 3, 3, 0], dtype=np.float32)
        ids, _ = _kept(scores, Sampling(temperature=1.0, top_k=2), 5.0)
        assert ids.tolist() == [1, 2, 3]

    @pytest.mark.parametrize("share", [0.0, 0.5, 1 - 2.0**-53])
    def test_a_token_of_weight_nought_is_never_drawn(self, share: float) -> None:
        weights = np.array([0.0, 0.3, 0.0, 0.7, 0.0])
        assert _draw(weights, share) in (1, 3)

    def test_impossible_tokens_are_never_drawn(self) -> None:
        logits = torch.full((50,), float("-inf"))
        logits[[7, 20]] = 1.0
        assert {sample(logits, Sampling(temperature=2.0), [], position) for position in range(60)} == {7, 20}

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_no_token_from_what_is_no_number(self, value: float, temperature: float) -> None:
        logits = torch.full((8,), -float("inf"))
        logits[3] = value
        with pytest.raises(LocalFault, match="position 17"):
            sample(logits, Sampling(temperature=temperature), [], 17)


@pytest.mark.parametrize(
    "option",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": True},
        {"top_k": -1},
        {"top_k": 2.5},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": float("nan")},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"repetition_penalty": 0},
        {"repetition_penalty": -1.0},
        {"seed": 1 << 64},
        {"seed": 1.0},
        {"temperature": "1"},
        {"seed": None},
    ],
    ids=str,
)
def test_what_is_out_of_range_is_named(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(UsageFault, match=f"^{name} must be"):
        Sampling(**option)


def test_whole_numbers_are_numbers() -> None:
    assert Sampling(temperature=1, top_p=1, repetition_penalty=1, min_p=0).temperature == 1
    assert Sampling(temperature=0).greedy


class TestWhatOpenAiAdds:
    """Presence and frequency penalty, logit bias, logarithms of probabilities, constraints."""

    logits = torch.tensor([2.0, 1.9, -1.0])

    def test_presence_counts_once_and_frequency_each_time(self) -> None:
        shy = Sampling(presence_penalty=0.2)
        assert sample(self.logits, shy, [0, 0], 2, answer_start=0) == 1
        assert sample(self.logits, Sampling(presence_penalty=0.05), [0, 0], 2, answer_start=0) == 0
        assert sample(self.logits, Sampling(frequency_penalty=0.06), [0, 0], 2, answer_start=0) == 1
        assert sample(self.logits, Sampling(frequency_penalty=0.06), [0], 1, answer_start=0) == 0

    def test_only_the_answer_counts(self) -> None:
        shy = Sampling(presence_penalty=2.0)
        assert sample(self.logits, shy, [0, 0], 2, answer_start=2) == 0
        assert sample(self.logits, shy, [0, 0], 2) == 0

    def test_a_bias_is_added(self) -> None:
        assert sample(self.logits, Sampling(logit_bias=((2, 3.5),)), [], 0) == 2
        assert sample(self.logits, Sampling(logit_bias=((0, -100.0),)), [], 0) == 1
        with pytest.raises(UsageFault, match="token 3; the vocabulary has 3"):
            sample(self.logits, Sampling(logit_bias=((3, 1.0),)), [], 0)

    def test_the_logits_are_left_as_they_were(self) -> None:
        before = self.logits.clone()
        everything = Sampling(presence_penalty=1, frequency_penalty=1, logit_bias=((1, 5.0),), repetition_penalty=2)
        sample(self.logits, everything, [0, 1], 2, answer_start=0, allowed=np.array([True, False, True]))
        assert torch.equal(self.logits, before)

    @pytest.mark.parametrize("temperature", [0.0, 50.0])
    def test_only_what_is_allowed_is_drawn(self, temperature: float) -> None:
        allowed = np.array([False, True, True])
        sampling = Sampling(temperature=temperature)
        drawn = {sample(self.logits, sampling, [], position, allowed=allowed) for position in range(40)}
        assert drawn == ({1} if temperature == 0 else {1, 2})

    def test_a_constraint_that_leaves_nothing_is_said(self) -> None:
        with pytest.raises(UsageFault, match="leaves no token for position 7"):
            sample(self.logits, Sampling(), [], 7, allowed=np.zeros(3, dtype=bool))

    def test_logarithms_are_those_of_the_softmax(self) -> None:
        logits = logits_of(8)
        expected_ones = logits.double().log_softmax(-1)
        logprob, top = log_probabilities(logits, 5, 4)
        assert logprob == pytest.approx(float(expected_ones[5]))
        values, ids = expected_ones.topk(4)
        assert [pair[0] for pair in top] == ids.tolist()
        assert [pair[1] for pair in top] == pytest.approx(values.tolist())
        assert log_probabilities(logits, 5, 0)[1] == ()
