"""Which format a model directory's weights are quantised in, as its config.json says."""

from __future__ import annotations

from pathlib import Path

from swarm.checkpoint.config import read_config
from swarm.checkpoint.formats import FORMATS, Format, Settings
from swarm.errors import ModelFault
from swarm.model.spec import CONFIG_FILE

FIELD = "quantization_config"


def read_format(directory: Path) -> Format | None:
    """None where the weights are not quantised. Raises ModelFault naming config.json and the field."""
    if not (directory / CONFIG_FILE).exists():
        return None
    values, source = read_config(directory).get(FIELD), f"{directory / CONFIG_FILE}: {FIELD}"
    if values is None:
        return None
    if not isinstance(values, dict):
        raise ModelFault(f"{source}: {values!r} is no object")
    method = values.get("quant_method")
    if not isinstance(method, str) or method not in FORMATS:
        raise ModelFault(f"{source}: quant_method: {method!r} is not read; known: {', '.join(FORMATS)}")
    return FORMATS[method](Settings(values, source))
