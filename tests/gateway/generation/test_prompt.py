"""Prompts under templates that take few shapes of a conversation, and answers whose beginning is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from swarm.gateway.anthropic.requests import CountRequest
from swarm.gateway.generation.prompt import Prompt, write
from swarm.gateway.generation.request import GenerationRequest
from swarm.gateway.http.errors import FieldFault
from swarm.gateway.openai.requests import ChatRequest
from swarm.gateway.responses.requests import ResponseRequest
from swarm.text.tokenizer import Text

# As Gemma 3's own: the system's words in front of the first message, and turns that alternate.
ALTERNATING = """\
{%- if messages[0].role == 'system' %}{% set words = messages[0].content + '\\n\\n' %}{% set messages = messages[1:] %}{% endif %}
{%- for message in messages %}
    {%- set wrong = message.role == 'system' or (message.role == 'user') != (loop.index0 % 2 == 0) %}
    {%- if wrong %}{{ raise_exception('roles must alternate') }}{% endif %}
    {{- '<' + message.role + '>' + (words if loop.first and words else '') + message.content }}
{%- endfor %}
{{- '<assistant>' if add_generation_prompt }}"""
NO_SYSTEM = """\
{%- for message in messages %}
    {%- if message.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}
    {{- '<' + message.role + '>' + message.content }}
{%- endfor %}"""
OPENS = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}<assistant><think>{{ '\\n' }}"
)


def text_with(template: str, place: Any) -> Text:
    Tokenizer(models.BPE()).save(str(place / "tokenizer.json"))
    (place / "chat_template.jinja").write_text(template)
    return Text.load(place)


def say(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def written(text: Text, messages: Sequence[Mapping[str, Any]], *, thinks: bool = True, **more: Any) -> Prompt:
    return write(text, GenerationRequest("m", messages=tuple(messages), **more), (), thinks=thinks)


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([say("system", "s"), say("user", "a")], "<user>s\n\na<assistant>"),
        ([say("user", "a"), say("system", "s")], "<user>a\n\ns<assistant>"),
        ([say("system", "s"), say("system", "t"), say("user", "a"), say("user", "b")], "<user>s\n\nt\n\na\n\nb<assistant>"),
        ([say("user", "a"), say("assistant", "b"), say("system", "s"), say("user", "c")],
         "<user>a<assistant>b<user>s\n\nc<assistant>"),
        ([say("user", "a"), say("system", "s"), say("assistant", "b"), say("user", "c")],
         "<user>a\n\ns<assistant>b<user>c<assistant>"),
    ],
)  # fmt: skip
def test_words_find_a_place_that_the_template_takes(messages: Any, prompt: str, tmp_path: Any) -> None:
    assert written(text_with(ALTERNATING, tmp_path), messages) == Prompt(prompt)


def test_a_conversation_keeps_its_beginning(tmp_path: Any) -> None:
    text = text_with(ALTERNATING, tmp_path)
    talk = [say("user", "a"), say("system", "s"), say("assistant", "b"), say("system", "t"), say("user", "c")]
    whole = written(text, talk).text
    for count in range(1, len(talk)):
        assert whole.startswith(written(text, talk[:count]).text.removesuffix("<assistant>"))


def test_a_template_without_a_system_is_told_its_words_by_the_user(tmp_path: Any) -> None:
    text = text_with(NO_SYSTEM, tmp_path)
    assert written(text, [say("system", "s"), say("user", "a"), say("user", "b")]).text == "<user>s\n\na\n\nb"


def test_calls_and_results_are_text_where_the_template_knows_no_tools(tmp_path: Any) -> None:
    call = {"id": "t", "type": "function", "function": {"name": "go", "arguments": '{"a": 1}'}}
    talk = [
        say("user", "a"),
        say("assistant", "", tool_calls=[call]),
        say("tool", "b", tool_call_id="t"),
        say("user", "c"),
    ]
    prompt = written(text_with(ALTERNATING, tmp_path), talk).text
    assert '{"name": "go", "arguments": {"a": 1}}' in prompt
    assert prompt.endswith("<user><tool_response>\nb\n</tool_response>\n\nc<assistant>")


USER, YES = say("user", "a"), say("assistant", "b")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ChatRequest.model_validate({"model": "m", "messages": [USER, YES, USER, YES]}).plain(""), None),
        (ChatRequest.model_validate({"model": "m", "messages": [YES, USER]}).plain(""), "messages[0].role"),
        (CountRequest.model_validate({"model": "m", "messages": [YES, USER]}).prompt(""), "messages[0].role"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(request_: GenerationRequest, field: str | None, tmp_path: Any) -> None:
    text = text_with(ALTERNATING, tmp_path)
    if field is None:
        assert write(text, request_, (), thinks=True)
        return
    with pytest.raises(FieldFault, match="roles must alternate") as refused:
        write(text, request_, (), thinks=True)
    assert refused.value.field == field


def test_what_is_refused_of_a_responses_input_is_named(tmp_path: Any) -> None:
    template = "{% for m in messages %}{{ raise_exception('no b') if 'b' in m.content else m.content }}{% endfor %}"
    text = text_with(template, tmp_path)
    asked = ResponseRequest.model_validate({"model": "m", "instructions": "s", "input": [USER, YES, USER]})
    messages = asked.messages(())
    with pytest.raises(FieldFault, match=r"^input\[1\]\.role: .*no b"):
        write(text, asked.plain(messages, ""), (), thinks=True)
    before = (say("user", "b"),)
    asked = ResponseRequest.model_validate({"model": "m", "input": "x"})
    with pytest.raises(FieldFault, match=r"^previous_response_id: "):
        write(text, asked.plain(asked.messages(before), ""), (), thinks=True)


@pytest.mark.parametrize(
    ("begun", "prompt", "opened"),
    [
        (say("assistant", "It is"), "<user>a<assistant><think>\n\n</think>\n\nIt is", False),
        (say("assistant", "It is", reasoning_content="hm"), "<user>a<assistant><think>\nhm\n</think>\n\nIt is", False),
        (say("assistant", "<think>\nhm"), "<user>a<assistant><think>\nhm", True),
        (say("assistant", "hm</think>It is"), "<user>a<assistant><think>\nhm</think>It is", False),
    ],
)
def test_the_beginning_of_an_answer_is_no_thought(begun: Any, prompt: str, opened: bool, tmp_path: Any) -> None:
    text = text_with(OPENS, tmp_path)
    assert written(text, [USER, begun], goes_on=True) == Prompt(prompt, opened)


def test_thoughts_that_the_template_begins_are_known_as_such_or_ended(tmp_path: Any) -> None:
    text = text_with(OPENS, tmp_path)
    assert not text.thinks, "its template writes no end of them"
    assert written(text, [USER]) == Prompt("<user>a<assistant><think>\n", True)
    assert written(text, [USER], thinks=False) == Prompt("<user>a<assistant><think>\n\n</think>\n\n")
