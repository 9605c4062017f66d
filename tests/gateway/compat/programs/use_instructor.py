"""instructor: an answer that has to fit a type, in each way that it asks OpenAI's APIs for one."""

import os

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Said(BaseModel):
    said: str = ""  # what is only asked for JSON may say anything


base = OpenAI(base_url=os.environ["GATEWAY"] + "/v1", api_key="any", max_retries=0)
for mode in (
    instructor.Mode.TOOLS,
    instructor.Mode.JSON,
    instructor.Mode.JSON_SCHEMA,
    instructor.Mode.RESPONSES_TOOLS,
):
    client = instructor.from_openai(base, mode=mode)
    said = client.chat.completions.create(
        model="probe",
        response_model=Said,
        max_retries=1,
        messages=[{"role": "user", "content": "What does note.txt say?"}],
    )
    print(mode, repr(said))
print("every turn is whole")
