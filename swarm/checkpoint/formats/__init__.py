"""How quantised checkpoints store their weights: one module per format, each with no knowledge of files or of models.

A format turns the name of a wanted tensor into the stored tensors that it is made from, with the dtypes and shapes that
they must have, and into the arithmetic that makes it from them, in fp32 where fewer bits would round.
"""

from collections.abc import Callable, Mapping

from swarm.checkpoint.formats.awq import Awq
from swarm.checkpoint.formats.compressed_tensors import Compressed
from swarm.checkpoint.formats.fp8 import BlockFp8
from swarm.checkpoint.formats.gptq import Gptq
from swarm.checkpoint.formats.layout import ALL_INPUTS, BadPart, Format, Layout, Part, Settings, StoredBlocks
from swarm.checkpoint.formats.mxfp4 import Mxfp4
from swarm.checkpoint.formats.stacked_experts import Stacked

FORMATS: Mapping[str, Callable[[Settings], Format]] = {  # by the config's quant_method
    "awq": Awq.from_settings,
    "compressed-tensors": Compressed.from_settings,
    "fp8": BlockFp8.from_settings,
    "gptq": Gptq.from_settings,
    "mxfp4": Mxfp4.from_settings,
}

__all__ = ["ALL_INPUTS", "FORMATS", "BadPart", "Format", "Layout", "Part", "Settings", "Stacked", "StoredBlocks"]
