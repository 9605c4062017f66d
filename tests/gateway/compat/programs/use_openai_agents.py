"""openai-agents: a run with a tool in both of OpenAI's APIs, then one whose last words have to fit a type."""

import asyncio
import os
from pathlib import Path

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

read: list[str] = []


class Said(BaseModel):
    said: str


@function_tool
def read_note(name: str) -> str:
    """Reads a note"""
    read.append(name)
    return Path(name).read_text()


async def main() -> None:
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=os.environ["GATEWAY"] + "/v1", api_key="any", max_retries=0)
    for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
        for output in (None, Said):
            model = kind(model="probe", openai_client=client)
            agent = Agent(name="Reader", instructions="Be brief.", tools=[read_note], model=model, output_type=output)
            read.clear()
            result = Runner.run_streamed(agent, "What does note.txt say?")
            async for _ in result.stream_events():
                pass
            print(kind.__name__, output, repr(result.final_output), read)
            assert read == ["note.txt"], "the tool is called although the last words have a type"
            assert isinstance(result.final_output, output or str)
    print("every turn is whole")


asyncio.run(main())
