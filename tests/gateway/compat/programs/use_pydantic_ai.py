"""pydantic-ai: a tool in three APIs, and an answer that has to fit a type, told as a schema and as a tool."""

import asyncio
import os
from pathlib import Path

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

BASE = os.environ["GATEWAY"]
read: list[str] = []


class Said(BaseModel):
    said: str


async def main() -> None:
    openai = OpenAIProvider(base_url=BASE + "/v1", api_key="any")
    models = (
        OpenAIChatModel("probe", provider=openai),
        OpenAIResponsesModel("probe", provider=openai),
        AnthropicModel("probe", provider=AnthropicProvider(base_url=BASE, api_key="any")),
    )
    for model in models:
        for output in (str, NativeOutput(Said), Said):
            if output is not str and isinstance(model, AnthropicModel):
                continue
            read.clear()
            agent = Agent(model, system_prompt="Be brief.", output_type=output)

            @agent.tool_plain
            def read_note(name: str) -> str:
                """Reads a note"""
                read.append(name)
                return Path(name).read_text()

            result = await agent.run("What does note.txt say?")
            print(type(model).__name__, output, repr(result.output), read)
            assert output is Said or read == ["note.txt"]
    print("every turn is whole")


asyncio.run(main())
