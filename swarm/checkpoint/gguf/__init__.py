"""Models in GGUF: the file, its keys, and how its blocks of numbers become tensors."""
