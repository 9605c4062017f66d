"""A prompt's answer by a client, and the unsplit model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from swarm.client import Client
from swarm.client.generate import Answer, Options

PROMPT = [(7 * index) % 250 for index in range(140)]
OPTIONS = Options(max_tokens=10, ignore_eos=True)


async def ask(client: Client, prompt: Sequence[int] = PROMPT, options: Options = OPTIONS) -> Answer:
    answer = client.generate(prompt, options=options)
    await answer.read()
    return answer


async def unsplit(model: Path, prompt: Sequence[int] = PROMPT, options: Options = OPTIONS) -> list[int]:
    """The ids that the undisturbed run in one process gives."""
    async with Client(model, local=True, precision="fp32") as client:
        return (await ask(client, prompt, options)).token_ids
