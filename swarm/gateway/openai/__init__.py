"""OpenAI's API: chat completions, completions, embeddings, models. Formats as in its API reference."""
