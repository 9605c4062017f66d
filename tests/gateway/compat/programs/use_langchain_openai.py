"""langchain-openai: a bound tool, its result, and an answer with a type, in both of OpenAI's APIs."""

import os
from pathlib import Path

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Said(BaseModel):
    said: str


@tool
def read_note(name: str) -> str:
    """Reads a note"""
    return Path(name).read_text()


for responses in (False, True):
    model = ChatOpenAI(
        model="probe",
        base_url=os.environ["GATEWAY"] + "/v1",
        api_key="any",
        max_retries=0,
        use_responses_api=responses,
    )
    messages: list = [HumanMessage("What does note.txt say?")]
    asked = model.bind_tools([read_note])
    messages.append(asked.invoke(messages))
    messages += [read_note.invoke(call) for call in messages[-1].tool_calls]
    whole = None
    for part in asked.stream(messages):
        whole = part if whole is None else whole + part
    print(whole.text)
    for method in ("json_schema", "function_calling"):
        print(model.with_structured_output(Said, method=method).invoke("What does note.txt say?"))
