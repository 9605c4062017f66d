"""How a model's files are read: safetensors or GGUF, plain or quantised; digests of what is in them. No network."""

import swarm.torch_environment  # noqa: F401 – importing it is what it is for
from swarm.checkpoint.checkpoint import Checkpoint, open_checkpoint

__all__ = ["Checkpoint", "open_checkpoint"]
