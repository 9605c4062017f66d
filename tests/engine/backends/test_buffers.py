"""Tables that no checkpoint holds get the values that their library gives them, or are named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from swarm.engine.backends.library import buffers
from swarm.engine.backends.library.buffers import restore_buffers
from swarm.errors import ModelFault

CPU = torch.device("cpu")


class Table(nn.Module):
    def __init__(self, kept: bool = True) -> None:
        super().__init__()
        self.register_buffer("angles", torch.arange(4.0), persistent=False)
        self.register_buffer("mask", torch.ones(2, 2, dtype=torch.bool).tril(), persistent=False)
        self.scale = 1.0 if kept else torch.ones(1)


class Owner:
    """As a model of the library restores what it knows."""

    def __init__(self, *known: str) -> None:
        self.known = known

    def _init_weights(self, module: nn.Module) -> None:
        fresh = Table()
        for name in self.known:
            getattr(module, name).copy_(getattr(fresh, name))


def on_meta(kept: bool = True) -> Table:
    with torch.device("meta"):
        return Table(kept)


def test_values_come_back() -> None:
    table = on_meta()
    assert not restore_buffers(Owner("angles", "mask"), [("model.table", table)], CPU, "config.json")
    assert torch.equal(table.angles, torch.arange(4.0))
    assert table.mask.tolist() == [[True, False], [True, True]]


def test_what_does_not_come_back_is_named() -> None:
    lacking = restore_buffers(Owner("mask"), [("model.table", on_meta())], CPU, "config.json")
    assert lacking == {"model.table.angles"}
    with pytest.raises(ModelFault, match=r"config\.json: model\.table\.scale: is a tensor"):
        restore_buffers(Owner("angles", "mask"), [("model.table", on_meta(kept=False))], CPU, "config.json")


def test_what_a_config_claims_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "MAX_BUFFER_BYTES", 19)
    with pytest.raises(ModelFault, match=r"model\.table: its tables would take 20 bytes; at most 19"):
        restore_buffers(Owner("angles", "mask"), [("model.table", on_meta())], CPU, "config.json")
