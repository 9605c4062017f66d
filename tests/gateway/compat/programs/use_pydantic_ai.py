"""pydantic-ai: a tool in both of OpenAI's APIs, and an answer that has to fit a type, told as a schema and as a tool."""

import asyncio
import os
from pathlib import Path

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

BASE = os.environ["GATEWAY"]
read: list[str] = []


class Said(BaseModel):
    said: str


def read_note(name: str) -> str:
    """Reads a note"""
    read.append(name)
    return Path(name).read_text()


async def main() -> None:
    openai = OpenAIProvider(base_url=BASE + "/v1", api_key="any")
    models = (
        OpenAIChatModel("probe", provider=openai),
        OpenAIResponsesModel("probe", provider=openai),
    )
    for model in models:
        for output in (str, NativeOutput(Said), Said):
            read.clear()
            tools = [] if output is Said else [read_note]  # with it a call is demanded, also of a probe that has read
            agent = Agent(model, system_prompt="Be brief.", output_type=output, tools=tools)
            result = await agent.run("What does note.txt say?")
            print(type(model).__name__, output, repr(result.output), read)
            assert read == (["note.txt"] if tools else [])
    print("every turn is whole")


asyncio.run(main())
