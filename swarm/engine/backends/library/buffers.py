"""Tensors of a model that no checkpoint holds: rotary frequencies, masks, tables of positions.

A model that was built on the meta device has them without values. The library restores them where it fills in weights that
a checkpoint lacks, and so does this; what it does not restore is found out, instead of being used as it happens to lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from swarm.errors import ModelFault

MAX_BUFFER_BYTES = 2 << 30  # of all that one module needs: what a config claims is not allocated unseen


def restore_buffers(
    owner: Any, modules: Iterable[tuple[str, nn.Module]], device: torch.device, source: str
) -> frozenset[str]:
    """Give the buffers of these modules, which belong to the library's model `owner`, their values.

    Returns the names of those that it has no values for. Raises ModelFault for tensors that are no buffers, and for large ones.
    """
    lacking: set[str] = set()
    for name, module in modules:
        stray = [key for key, value in vars(module).items() if isinstance(value, Tensor) and value.is_meta]
        if stray:
            raise ModelFault(f"{source}: {name}.{stray[0]}: is a tensor that the library does not restore")
        if any(buffer is not None for buffer in module._buffers.values()):
            lacking.update(f"{name}.{key}" for key in _restore(owner, name, module, device, source))
    return frozenset(lacking)


def _restore(owner: Any, name: str, module: nn.Module, device: torch.device, source: str) -> list[str]:
    shapes = {key: buffer for key, buffer in module._buffers.items() if buffer is not None}
    size = sum(buffer.nbytes for buffer in shapes.values())
    if size > MAX_BUFFER_BYTES:
        raise ModelFault(f"{source}: {name}: its tables would take {size} bytes; at most {MAX_BUFFER_BYTES} are made")
    tries: list[dict[str, Tensor]] = []
    for filler in (0, 1):  # what differs by what lay there before was not written
        module._buffers.update({key: torch.full(b.shape, filler, dtype=b.dtype) for key, b in shapes.items()})
        owner._init_weights(module)
        tries.append({key: buffer for key in shapes if (buffer := module._buffers[key]) is not None})
    for key in shapes:
        module._buffers[key] = tries[1][key].to(device)
    return [key for key in shapes if not torch.equal(tries[0][key], tries[1][key])]
