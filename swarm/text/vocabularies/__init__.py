"""Tokenizers of models that bring no tokenizer.json: GGUF keys, vocab.json with merges.txt, vocab.txt."""
