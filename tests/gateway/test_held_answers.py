"""Formats and demanded calls: schemas beside tools, schemas that no grammar takes, both at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
from gateway.test_agents import run
from support.gateway import MODEL, Served
from support.probe import make_probe

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 100, "temperature": 0}
SCHEMA = {
    "type": "object",
    "properties": {"said": {"enum": ["a"]}},
    "required": ["said"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


def tool(name: str, strict: bool = False, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "strict": strict, "parameters": parameters}}


async def asked(http: httpx.AsyncClient, path: str = "/v1/chat/completions", **body: Any) -> Any:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def arguments(http: httpx.AsyncClient, *tools: Any, **body: Any) -> Any:
    """Of the call that is demanded."""
    answer = await asked(http, **CHAT, tools=tools, tool_choice="required", **body)
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    return json.loads(call["function"]["arguments"])


def test_a_schema_for_the_answer_does_not_switch_tools_off(tmp_path: Path) -> None:
    """The probe calls a tool that it knows, and says a sentence without one: which the schema forbids."""
    probe = make_probe(tmp_path / "probe", {name: {"name": "note"} for name in ("a", "b", "c", "d", "e", "read_note")})
    chat = {**CHAT, "model": "probe"}

    async def work(http: httpx.AsyncClient, _: Served) -> None:
        tools = [tool("read_note", type="object", properties={"name": {"type": "string"}})]
        message = (await asked(http, **chat, tools=tools, response_format=FORMAT))["choices"][0]["message"]
        assert message["tool_calls"][0]["function"]["name"] == "read_note"
        messages = [
            *CHAT["messages"],
            message,
            {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "y"},
        ]  # type: ignore[misc]
        message = (await asked(http, **{**chat, "messages": messages}, tools=tools, response_format=FORMAT))["choices"][
            0
        ]["message"]
        assert json.loads(message["content"]) == {"said": "a"}
        form = {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}
        flat = [{"type": "function", **tools[0]["function"]}]
        (call,) = (await asked(http, "/v1/responses", model="probe", input="x", tools=flat, text=form))["output"]
        assert (call["type"], call["name"]) == ("function_call", "read_note")
        (item,) = (await asked(http, "/v1/responses", model="probe", input="x", text=form))["output"]
        assert json.loads(item["content"][0]["text"]) == {"said": "a"}

    run(work, paths=(probe,))  # fmt: skip


def test_a_demanded_call_makes_a_format_say_nothing() -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        wanted = tool("go", type="object", properties={"x": {"enum": [1]}}, required=["x"])
        assert await arguments(http, wanted, response_format=FORMAT) == {"x": 1}

    run(work)


ODD: list[dict[str, Any]] = [
    {"type": "object", "properties": {"x": {"enum": [1]}, "y": {"pattern": "^(?!x)[a-z]+$"}}, "required": ["x"]},
    {"type": "object", "properties": {"x": {"enum": [1]}}, "required": None},
    {"type": "object", "properties": []},
    {"type": "any"},
    {"type": "object", "properties": {"x": {"$ref": "#/$defs/nowhere"}}},
]


def test_schemas_that_no_grammar_takes_do_not_fail_the_request() -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        good = tool("good", type="object", properties={"x": {"enum": [1]}}, required=["x"])
        odd = [tool(f"odd{number}", **parameters) for number, parameters in enumerate(ODD)]
        choice = {"type": "function", "function": {"name": "good"}}
        answer = await asked(http, **CHAT, tools=[*odd, good], tool_choice=choice)
        assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "good"
        answer = await asked(http, **CHAT, tools=[good, *odd], tool_choice="required")
        assert answer["choices"][0]["message"]["tool_calls"]
        for number, parameters in enumerate(ODD):
            tools = [good, tool("odd", strict=True, **parameters)]
            refused = await http.post("/v1/chat/completions", json={**CHAT, "tools": tools, "tool_choice": "required"})
            assert refused.status_code == 400
            error = refused.json()["error"]
            assert error["param"] == "tools[1]"
            assert error["message"].startswith("tools[1] is strict")
            assert number > 0 or "look-ahead" in error["message"], "the reason is told to its end"

    run(work)


def test_a_tool_without_parameters_is_called_without_arguments() -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        for parameters in ({}, {"type": "object"}, {"type": "object", "properties": {}}):
            assert await arguments(http, tool("now", **parameters)) == {}

    run(work)
