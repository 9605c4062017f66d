"""What a model is: families, layer kinds, and the spec that a config.json describes. No torch, no files."""
