"""Text to tokens and back: tokenizers, chat templates, calls of tools, grammars. No torch, no network."""
