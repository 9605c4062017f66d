"""OpenAI's Responses API, with a small local store for conversations that go on. Formats as in its API reference."""
