"""Histories that their owners cannot edit: what is no text stands in them as a mark, what was just asked is refused by name."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from swarm.gateway.anthropic.requests import CountRequest
from swarm.gateway.generation.foreign import MAX_SHOWN, last_asked
from swarm.gateway.http.errors import FieldFault
from swarm.gateway.openai.requests import ChatRequest
from swarm.gateway.responses.items import Item
from swarm.gateway.responses.requests import ResponseRequest
from swarm.gateway.responses.store import ResponseStore

MARK = "[image left out: this model reads text only]"
PNG = "iVBORw0KGgo="
BLOCK: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
URL: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
INPUT: Any = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
YES: Any = {"role": "assistant", "content": "yes"}


def text(words: str, kind: str = "text") -> dict[str, str]:
    return {"type": kind, "text": words}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def anthropics(*messages: Any) -> tuple[Any, ...]:
    return CountRequest.model_validate({"model": "m", "messages": list(messages)}).prompt("").messages or ()


def openais(*messages: Any) -> tuple[Any, ...]:
    return ChatRequest.model_validate({"model": "m", "messages": list(messages)}).plain("").messages or ()


def items(*given: Any) -> tuple[Any, ...]:
    return ResponseRequest.model_validate({"model": "m", "input": list(given)}).messages(())


def result(*content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t", "content": list(content)}


@pytest.mark.parametrize(
    ("read", "part"),
    [(anthropics, BLOCK), (openais, URL), (items, INPUT), (items, {"type": "input_file", "file_id": "f"})],
)
def test_an_image_of_an_earlier_turn_is_a_mark_and_one_just_sent_is_refused_by_name(read: Any, part: Any) -> None:
    kind = "input_text" if read is items else "text"
    first, *_ = read(user(text("see", kind), part), YES, user(text("again", kind)))
    assert first["content"].startswith("see\n[")
    assert first["content"].endswith(" left out: this model reads text only]")
    with pytest.raises(FieldFault, match="text only; leave it out") as refused:
        read(user(text("hi", kind)), YES, user(text("see", kind), part))
    assert refused.value.field == ("input" if read is items else "messages") + "[2].content[1]"
    # Whoever was refused goes on with another message after it.
    assert "left out" in read(user(part), user(text("never mind", kind)))[0]["content"]


def test_an_image_that_a_tool_gave_is_a_mark_also_in_the_last_turn() -> None:
    called = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Read", "input": {}}]}
    *_, last = anthropics(user(text("see")), called, user(result(text("a.png"), BLOCK)))
    assert last == {"role": "tool", "tool_call_id": "t", "content": f"a.png\n{MARK}"}
    *_, beside = anthropics(user(text("see")), called, user(result(), BLOCK))
    assert beside["content"] == MARK
    call = {"id": "t", "type": "function", "function": {"name": "Read", "arguments": "{}"}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    *_, told, after = openais(
        user(text("see")), called, {"role": "tool", "tool_call_id": "t", "content": [URL]}, user(URL)
    )
    assert told["content"] == after["content"] == MARK
    *_, output = items(
        user(text("see", "input_text")),
        {"type": "function_call", "call_id": "t", "name": "view", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "t", "output": [INPUT]},
    )
    assert output == {"role": "tool", "tool_call_id": "t", "content": MARK}


def test_text_is_text_wherever_it_stands() -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "words"}
    found = {"type": "search_result", "source": "http://a", "title": "A", "content": [text("found")]}
    blocks = {"type": "content", "content": [text("one"), BLOCK]}
    (message,) = anthropics(
        user({"type": "document", "title": "T", "source": plain}, found, {"type": "document", "source": blocks})
    )
    assert message["content"] == f"T\nwords\nA\nhttp://a\nfound\none\n{MARK}"
    data = "data:text/csv;base64," + base64.b64encode(b"a,b").decode()
    (message,) = openais(user({"type": "file", "file": {"filename": "a.csv", "file_data": data}}))
    assert message["content"] == "a,b"
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}
    assert openais(user(pdf), YES, user(text("x")))[0]["content"].startswith("[file a.pdf left out")


@pytest.mark.parametrize("read", [openais, anthropics, items])
def test_parts_of_one_message_are_joined_by_a_line_end(read: Any) -> None:
    kind = "input_text" if read is items else "text"
    assert read(user(text("one", kind), text("two", kind)))[0]["content"] == "one\ntwo"


def test_calls_that_a_server_ran_are_text() -> None:
    used = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "moon"}}
    hit = {"type": "web_search_result", "title": "Moon", "url": "http://moon", "encrypted_content": "x" * 99}
    got = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [hit]}
    _, answer, _ = anthropics(
        user(text("hi")), {"role": "assistant", "content": [used, got, text("It is far.")]}, user(text("how far?"))
    )
    said = answer["content"].splitlines()
    assert said[0] == '[server_tool_use: {"name": "web_search", "input": {"query": "moon"}}]'
    assert json.loads(said[1].removeprefix("[web_search_tool_result: ").removesuffix("]"))["content"] == [
        {"type": "web_search_result", "title": "Moon", "url": "http://moon"}
    ]
    assert said[2] == "It is far."
    long = {**used, "input": {"query": "x" * 10 * MAX_SHOWN}}
    assert len(anthropics({"role": "assistant", "content": [long]}, user(text("x")))[0]["content"]) < 2 * MAX_SHOWN


def test_items_of_foreign_tools_become_text_or_calls() -> None:
    found = items(
        user(text("hi", "input_text")),
        {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search", "query": "moon"}},
        {
            "type": "local_shell_call",
            "call_id": "l",
            "action": {"type": "exec", "command": ["ls"]},
            "status": "completed",
        },
        {"type": "local_shell_call_output", "id": "l", "output": "a.txt"},
        {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        {"type": "reasoning", "summary": [], "encrypted_content": "x"},
        {"type": "image_generation_call", "id": "i", "result": PNG, "status": "completed"},
        {"type": "item_reference", "id": "msg_gone"},
        {"type": "compaction", "encrypted_content": "x"},
        user(text("go on", "input_text")),
    )
    assert [message["role"] for message in found] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert found[1]["content"] == '[web_search_call: {"action": {"type": "search", "query": "moon"}}]'
    (call,) = found[1]["tool_calls"]
    assert (call["id"], call["function"]["name"]) == ("l", "local_shell")
    assert json.loads(call["function"]["arguments"])["command"] == ["ls"]
    assert found[2] == {"role": "tool", "tool_call_id": "l", "content": "a.txt"}
    (call,) = found[3]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"input": "*** Begin"}
    assert found[5]["content"].splitlines() == [
        "[image_generation_call]",
        "[an earlier item left out: it is not kept here]",
    ]
    assert items({"type": "odd", "words": [1]}, user(text("x", "input_text")))[0]["content"] == '[odd: {"words": [1]}]'
    with pytest.raises(FieldFault, match=r"input\[0\] is 'odd', which is not known here; leave it out"):
        items({"type": "odd"})


def test_an_item_that_is_referred_to_is_found_while_it_is_kept() -> None:
    store = ResponseStore()
    said = {"type": "message", "id": "msg_1", "role": "assistant", "content": [text("four", "output_text")]}
    store.put("me", {"id": "resp_1", "output": [said]}, (), ())
    request = ResponseRequest.model_validate({"model": "m", "input": [{"type": "item_reference", "id": "msg_1"}]})
    assert request.messages((), lambda name: store.item("me", name)) == ({"role": "assistant", "content": "four"},)
    assert store.item("you", "msg_1") is None
    store.delete("me", "resp_1")
    assert store.item("me", "msg_1") is None


def test_an_items_own_form_is_given_back() -> None:
    sent = {"type": "web_search_call", "id": "ws", "action": {"query": "moon"}}
    assert Item.model_validate(sent).shown() == sent


def test_arguments_may_be_an_object() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    *_, message = openais({"role": "assistant", "content": "", "tool_calls": [call]})
    assert message["tool_calls"][0]["function"]["arguments"] == '{"city": "Paris"}'
    (message,) = items({"type": "function_call", "call_id": "t", "name": "weather", "arguments": {"city": "Paris"}})
    assert message["tool_calls"][0]["function"]["arguments"] == '{"city": "Paris"}'


@pytest.mark.parametrize(
    ("roles", "place"),
    [
        (["user"], 0),
        (["user", "system"], 0),
        (["user", "assistant"], None),
        (["user", "user"], 1),
        (["user", "assistant", "tool", "user"], None),
        (["system"], None),
    ],
)
def test_what_was_just_asked(roles: list[str], place: int | None) -> None:
    assert last_asked(roles) == place
