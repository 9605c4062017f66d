"""litellm, which aider and others ask through: a tool whose call is streamed, and what the model makes of its result."""

import json
import os
from pathlib import Path

import litellm

TOOL = {
    "type": "function",
    "function": {
        "name": "read_note",
        "description": "Reads a note",
        "parameters": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
}
messages: list = [{"role": "user", "content": "What does note.txt say?"}]
shared = {"model": "openai/probe", "api_base": os.environ["GATEWAY"] + "/v1", "tools": [TOOL]}
parts = list(litellm.completion(messages=messages, stream=True, stream_options={"include_usage": True}, **shared))
message = litellm.stream_chunk_builder(parts, messages=messages).choices[0].message
messages.append(message.model_dump())
for call in message.tool_calls:
    note = Path(json.loads(call.function.arguments)["name"]).read_text()
    messages.append({"role": "tool", "tool_call_id": call.id, "content": note})
print(litellm.completion(messages=messages, **shared).choices[0].message.content)
