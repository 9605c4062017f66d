"""Tools that are not functions, as coding agents offer them, and calls of them as these agents take them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
from gateway.test_agents import prompt_of, run
from support.gateway import MODEL, Served
from support.probe import make_probe

from swarm.gateway.responses.requests import ResponseRequest

PARAMETERS = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": False}
ADD: dict[str, Any] = {"type": "function", "name": "add", "parameters": PARAMETERS}
SEARCH = {"type": "web_search", "search_context_size": "low", "filters": {"allowed_domains": ["a"]}}
AGENTS = {"type": "namespace", "name": "multi_agent_v1", "description": "Agents", "tools": [{**ADD, "name": "spawn"}]}
LARK = {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}
PATCH = {"type": "custom", "name": "apply_patch", "description": "Patches", "format": LARK}
SHELL = {"type": "local_shell"}
CODEX = [ADD, AGENTS, SEARCH, PATCH, SHELL, {"type": "image_generation"}]
ASKED = {"model": MODEL, "input": "hi", "max_output_tokens": 2, "store": False}


async def made(http: httpx.AsyncClient, path: str = "/v1/responses", **body: Any) -> dict[str, Any]:
    answer = await http.post(path, json={**ASKED, "max_output_tokens": 300, "temperature": 0, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_what_only_a_server_could_run_is_left_out_and_said_once() -> None:
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    searching: list[Any] = [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
        {"type": "mcp_toolset"},
    ]

    async def work(http: httpx.AsyncClient, served: Served) -> None:
        for _ in range(2):
            told = (await made(http, **{**ASKED, "tools": CODEX}))["tools"]
            assert [tool["type"] for tool in told] == [tool["type"] for tool in CODEX], "they are repeated as sent"
            assert told[2] == SEARCH
        await made(http, **{**ASKED, "tools": [SEARCH]})
        tools = [*searching, {"name": "add", "input_schema": PARAMETERS}]
        await made(http, "/v1/messages", **chat, tools=tools)
        await made(http, "/v1/messages/count_tokens", **chat, tools=tools)
        await made(
            http, "/v1/chat/completions", **chat, tools=[SEARCH, {"type": "function", "function": {"name": "f"}}]
        )
        said = [event.details["type"] for event in served.events if event.name == "gateway.tool_left_out"]
        assert said == ["web_search", "image_generation", "web_search_20250305", "mcp_toolset"]

    run(work)


def test_tools_that_programs_run_without_a_schema_are_known_by_their_type() -> None:
    async def work(http: httpx.AsyncClient, served: Served) -> None:
        tools = [
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 10},
            {"type": "memory_20250818", "name": "memory"},
        ]
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 40, "tools": tools}
        for choice in ({"type": "tool", "name": "str_replace_based_edit_tool"}, {"type": "tool", "name": "bash"}):
            (block,) = (await made(http, "/v1/messages", **body, tool_choice=choice))["content"]
            assert (block["type"], block["name"]) == ("tool_use", choice["name"])
        assert not any(event.name == "gateway.tool_left_out" for event in served.events)

    run(work)


def test_a_namespace_is_flat_to_the_model_and_told_back_apart() -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        chosen = {"type": "function", "name": "spawn", "namespace": "multi_agent_v1"}
        (call,) = (await made(http, tools=CODEX, tool_choice=chosen))["output"]
        assert (call["type"], call["namespace"], call["name"]) == ("function_call", "multi_agent_v1", "spawn")
        assert json.loads(call["arguments"]) == {"a": 1}
        assert call["status"] == "completed"
        answer = await http.post("/v1/responses", json={**ASKED, "input": [
            {"role": "user", "content": "x"}, call, {"type": "function_call_output", "call_id": call["call_id"], "output": "y"},
        ], "tools": CODEX})  # fmt: skip
        assert answer.status_code == 200, answer.text

    run(work)
    request = ResponseRequest.model_validate({**ASKED, "tools": CODEX, "input": [
        {"type": "function_call", "call_id": "c", "name": "spawn", "namespace": "multi_agent_v1", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
    ]})  # fmt: skip
    prompt = prompt_of(request.plain(request.messages(()), ""))
    assert prompt.count('"name": "multi_agent_v1__spawn"') == 2, "as a tool and as a call"
    assert "web_search" not in prompt
    assert "start: /a+/" in prompt


def test_a_custom_tool_is_called_with_a_text() -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        body = {"tools": CODEX, "tool_choice": {"type": "custom", "name": "apply_patch"}}
        whole = await made(http, **body)
        (call,) = whole["output"]
        assert (call["type"], call["name"], type(call["input"])) == ("custom_tool_call", "apply_patch", str)
        assert call["status"] == whole["status"]
        asked = {**ASKED, "max_output_tokens": 300, "temperature": 0, "stream": True, **body}
        lines = (await http.post("/v1/responses", json=asked)).text
        events = [json.loads(line[6:]) for line in lines.splitlines() if line.startswith("data: ")]
        (done,) = (event for event in events if event["type"] == "response.custom_tool_call_input.done")
        assert done["input"] == call["input"]
        (item,) = (event["item"] for event in events if event["type"] == "response.output_item.done")
        assert item["input"] == call["input"]
        chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 300}
        tools = [{"type": "custom", "custom": {"name": "apply_patch", "description": "Patches"}}]
        choice = {"type": "custom", "custom": {"name": "apply_patch"}}
        answer = await made(http, "/v1/chat/completions", **chat, tools=tools, tool_choice=choice)
        message = answer["choices"][0]["message"]
        (call,) = message["tool_calls"]
        assert (call["type"], type(call["custom"]["input"])) == ("custom", str)
        talk = [*chat["messages"], message, {"role": "tool", "tool_call_id": call["id"], "content": "done"}]  # type: ignore[misc]
        await made(http, "/v1/chat/completions", messages=talk, max_tokens=2, tools=tools)

    run(work)
    request = ResponseRequest.model_validate({**ASKED, "tools": CODEX, "input": [
        {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "patched"}]},
    ]})  # fmt: skip
    prompt = prompt_of(request.plain(request.messages(()), ""))
    assert '{"input": "*** Begin"}' in prompt
    assert "patched" in prompt


def test_a_shell_of_whoever_asks_is_called_with_words() -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        (call,) = (await made(http, tools=CODEX, tool_choice={"type": "local_shell"}, max_output_tokens=90))["output"]
        assert call["type"] == "local_shell_call"
        assert call["action"]["type"] == "exec"
        assert isinstance(call["action"]["command"], list)
        await made(http, tools=CODEX, max_output_tokens=2, input=[
            {"role": "user", "content": "x"},
            {"type": "local_shell_call", "call_id": "c", "action": {"type": "exec", "command": ["ls"], "env": {}}},
            {"type": "local_shell_call_output", "id": "c", "output": "a"},
            {"type": "tool_search_call", "arguments": {"query": "x"}, "execution": "client"},
            {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search"}},
            {"type": "computer_call", "action": [], "output": {}},
        ])  # fmt: skip

    run(work)


def test_only_some_tools_may_be_allowed() -> None:
    def offers(mode: str, *tools: Any) -> Any:
        chosen = {"type": "allowed_tools", "mode": mode, "tools": list(tools)}
        box, choice = ResponseRequest.model_validate({**ASKED, "tools": CODEX, "tool_choice": chosen}).offers()
        return [each.name for each in box.offered], choice

    everything = ["add", "multi_agent_v1__spawn", "apply_patch", "local_shell"]
    assert offers("auto", {"type": "function", "name": "add"}, {"type": "web_search"}) == (["add"], "auto")
    assert offers("auto", {"type": "web_search"}) == (everything, "none")
    assert offers("required", {"type": "function", "name": "add"}, SHELL) == (everything, ("add", "local_shell"))

    async def work(http: httpx.AsyncClient, _: Served) -> None:
        named = {"type": "function", "function": {"name": "add"}}
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
        tools = [{"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in ("sub", "add")]
        chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 100, "tools": tools}
        answer = await made(http, "/v1/chat/completions", **chat, tool_choice=allowed)
        (call,) = answer["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "add"

    run(work)


def test_what_other_servers_have_besides_is_not_found() -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        answer = await http.post("/v1/responses/compact", json={"model": MODEL, "input": []})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")

    run(work)


def test_many_tools_and_options_of_streams_are_taken() -> None:
    async def work(http: httpx.AsyncClient, _: Served) -> None:
        tools = [{"type": "function", "function": {"name": f"f{number}"}} for number in range(129)]
        chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "tools": tools}
        await made(http, "/v1/chat/completions", **chat, tool_choice="none", stream_options={"include_usage": True})

    run(work)


def test_a_call_that_max_tokens_cuts_is_a_call_and_not_completed(tmp_path: Path) -> None:
    probe = make_probe(tmp_path / "probe", {"write": {"text": "word " * 40}})
    tool = {"name": "write", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}}

    def is_beginning(arguments: str) -> bool:
        return arguments.startswith('{"text": "word word') and not arguments.endswith("}")

    async def work(http: httpx.AsyncClient, _: Served) -> None:
        cut: dict[str, Any] = {"model": "probe", "max_tokens": 20, "max_output_tokens": 20}
        whole = await made(http, **cut, tools=[{"type": "function", **tool}])
        (item,) = whole["output"]
        assert (whole["status"], item["type"], item["status"]) == ("incomplete", "function_call", "incomplete")
        assert is_beginning(item["arguments"])
        lines = await http.post(
            "/v1/responses", json={**ASKED, **cut, "tools": [{"type": "function", **tool}], "stream": True}
        )
        events = [json.loads(line[6:]) for line in lines.text.splitlines() if line.startswith("data: ")]
        deltas = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
        assert "".join(deltas) == item["arguments"]
        assert len(deltas) > 3, "they are told as they are written"
        chat = {**cut, "messages": [{"role": "user", "content": "x"}]}
        tools = [{"type": "function", "function": tool}]
        (choice,) = (await made(http, "/v1/chat/completions", **chat, tools=tools))["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("length", None)
        assert is_beginning(choice["message"]["tool_calls"][0]["function"]["arguments"])
        shown = [{"name": "write", "input_schema": tool["parameters"]}]
        message = await made(http, "/v1/messages", **chat, tools=shown)
        assert message["stop_reason"] == "max_tokens"
        (block,) = message["content"]
        assert (block["type"], block["name"]) == ("tool_use", "write")
        lines = await http.post("/v1/messages", json={**chat, "tools": shown, "max_tokens": 200, "stream": True})
        events = [json.loads(line[6:]) for line in lines.text.splitlines() if line.startswith("data: ")]
        deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
        assert json.loads("".join(delta["partial_json"] for delta in deltas)) == {"text": "word " * 40}
        assert len(deltas) > 3

    run(work, paths=(probe,))
