"""Anthropic's Messages API, which coding agents speak. Formats as in its API reference."""
