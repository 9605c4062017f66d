"""What operations point to, found again by its address and copied to a device."""

from __future__ import annotations

from collections.abc import Iterable
from ctypes import Array, addressof
from typing import TypeVar

import torch
from torch import Tensor

from swarm.engine.layers.mlp import Experts
from swarm.engine.portable.device.linear import DeviceLinear
from swarm.engine.portable.linear import PortableLinear
from swarm.kernels.structures import CAttends, CExpert, CExperts, CRecurs

Described = TypeVar("Described", CAttends, CExperts, CRecurs)


class Uploads:
    """Of all that an assembler keeps. Each is copied once, when it is first asked for."""

    def __init__(self, kept: Iterable[object], device: torch.device) -> None:
        self.device = device
        self._kept: dict[int, object] = {}  # by address
        self._uploaded: dict[int, object] = {}
        owner: object = None
        for each in kept:
            if isinstance(each, Array):  # weights or experts: what they are made of stands before them
                self._kept[addressof(each)] = owner
            elif isinstance(each, Tensor):
                self._kept[each.data_ptr()] = each
            elif isinstance(each, CAttends | CExperts | CRecurs):
                self._kept[addressof(each)] = each
            owner = each

    def tensor(self, address: int | None) -> Tensor | None:
        return self.needed(address) if address else None

    def needed(self, address: int) -> Tensor:
        if address not in self._uploaded:
            self._uploaded[address] = self._tensor(address).to(self.device)
        found = self._uploaded[address]
        assert isinstance(found, Tensor)
        return found

    def _tensor(self, address: int) -> Tensor:
        found = self._kept[address]
        assert isinstance(found, Tensor)
        return found

    def linear(self, address: int) -> DeviceLinear:
        """By the address of its weights."""
        if address not in self._uploaded:
            whole = self._kept[address]
            assert isinstance(whole, PortableLinear)
            self._uploaded[address] = DeviceLinear(whole, self.device)
        found = self._uploaded[address]
        assert isinstance(found, DeviceLinear)
        return found

    def described(self, address: int, kind: type[Described]) -> Described:
        found = self._kept[address]
        assert isinstance(found, kind)
        return found

    def experts(self, described: CExperts) -> Experts:
        found = self._kept[described.experts]
        assert isinstance(found, Experts)
        return found

    def pairs(self, described: CExperts) -> list[tuple[DeviceLinear, DeviceLinear]]:
        """Of each expert what leads up and what leads down."""
        each = (CExpert * described.count).from_address(described.experts)
        return [(self.linear(expert.up.parts), self.linear(expert.down.parts)) for expert in each]
