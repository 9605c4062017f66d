"""How well tokens were predicted, summed up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class Tally:
    """Of one precision over all judged tokens. Nats are natural logarithms' units."""

    tokens: int = 0
    text_bytes: int = 0  # of these tokens
    nats: float = 0.0  # of surprise: minus the logarithms of what each token was given
    agreed: int = 0  # tokens where the likeliest is the reference's
    divergence: float = 0.0  # Kullback and Leibler's, of the reference's shares from these, in nats

    def add(self, logits: Tensor, reference: Tensor, targets: Tensor, text_bytes: int) -> None:
        """Logits of both, fp32 [rows, vocab]; the tokens that came, [rows]; their bytes in all."""
        own, true = torch.log_softmax(logits, 1), torch.log_softmax(reference, 1)
        self.tokens += len(targets)
        self.text_bytes += text_bytes
        self.nats -= own.gather(1, targets[:, None]).double().sum().item()
        self.agreed += int((logits.argmax(1) == reference.argmax(1)).sum())
        self.divergence += (true.exp() * (true - own)).sum(1).double().sum().item()

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.text_bytes

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats / self.tokens)

    @property
    def agreement(self) -> float:
        """A share of 1."""
        return self.agreed / self.tokens

    @property
    def mean_divergence(self) -> float:
        """Nats a token."""
        return self.divergence / self.tokens
