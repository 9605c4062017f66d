"""Anthropic's own package: a tool, streamed, its result, and the count of what was said."""

import os
from pathlib import Path

from anthropic import Anthropic

TOOL = {
    "name": "read_note",
    "description": "Reads a note",
    "input_schema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
}
client = Anthropic(base_url=os.environ["GATEWAY"], api_key="any", max_retries=0)
messages: list = [{"role": "user", "content": "What does note.txt say?"}]
shared = {"model": "probe", "tools": [TOOL], "system": "Be brief."}
with client.messages.stream(messages=messages, max_tokens=200, **shared) as stream:
    for _ in stream:
        pass
    message = stream.get_final_message()
messages.append({"role": "assistant", "content": message.content})
results = [
    {"type": "tool_result", "tool_use_id": block.id, "content": Path(block.input["name"]).read_text()}
    for block in message.content
    if block.type == "tool_use"
]
messages.append({"role": "user", "content": results})
assert client.messages.count_tokens(messages=messages, **shared).input_tokens > 0
assert [model.id for model in client.models.list()] == ["probe"]
print(client.messages.create(messages=messages, max_tokens=200, **shared).content[0].text)
