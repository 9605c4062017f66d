"""Model families: each is a row of data that names its tensors and fills in what its config.json may omit.

Knows nothing of torch. A new family that differs by names and defaults only is a new row in one of the modules here.
"""

from collections.abc import Mapping

from swarm.model.families import classics, dense, encoders, experts, gemma, recurrent
from swarm.model.families.family import Family

__all__ = ["FAMILIES", "Family"]

ROWS = (
    dense.LLAMA,
    dense.QWEN2,
    dense.MISTRAL,
    dense.QWEN3,
    dense.GRANITE,
    dense.OLMO2,
    dense.PHI3,
    dense.GLM4,
    gemma.GEMMA2,
    gemma.GEMMA3,
    gemma.GEMMA3_WITH_IMAGES,
    gemma.GEMMA4,
    gemma.GEMMA4_WITH_IMAGES,
    experts.MIXTRAL,
    experts.QWEN3_MOE,
    experts.GPT_OSS,
    classics.GPT2,
    classics.GPT_NEOX,
    classics.OPT,
    classics.BLOOM,
    classics.FALCON,
    recurrent.QWEN3_5,
    recurrent.QWEN3_5_WITH_IMAGES,
    recurrent.QWEN3_NEXT,
    recurrent.QWEN3_5_MOE,
    recurrent.QWEN3_5_MOE_WITH_IMAGES,
    encoders.BERT,
    encoders.ROBERTA,
    encoders.XLM_ROBERTA,
    encoders.DISTILBERT,
    encoders.MPNET,
    encoders.MODERNBERT,
)
FAMILIES: Mapping[str, Family] = {name: family for family in ROWS for name in (family.architecture, *family.also)}
