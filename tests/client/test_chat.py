"""Chat templates: rendered as transformers renders them, and kept from doing harm."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.tokenizers import write_text_files
from transformers import PreTrainedTokenizerFast

from swarm.client.text import Text
from swarm.errors import ModelFault, UsageFault

LLAMA_3 = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|user|>system\n" + system_message + "<|eos|>" }}
{%- for message in messages %}
    {%- if loop.index0 > 3 %}{% break %}{% endif %}
    {{- '<|' + message.role + '|>\n' + message['content'] | trim + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\n' }}
{%- endif %}
"""
ALTERNATING = """{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Conversation roles must alternate user/assistant/…') }}
    {% endif %}
    {% if message.role == 'user' %}
{{ '[INST] ' + message.content + ' [/INST]' }}
    {% else %}
{% generation %}{{ message.content + eos_token }}{% endgeneration %}
    {% endif %}
{% endfor %}
"""
JSON = """{% set ns = namespace(count=0) %}{% for m in messages %}{% set ns.count = ns.count + 1 %}{{ m | tojson }}
{{ m | tojson(indent=2) }}{% endfor %}{{ ns.count }}{% if tools is not none %}tools{% endif %}"""
TALK = [
    {"role": "user", "content": "  Grüße <b>'n</b> 你好  "},
    {"role": "assistant", "content": "Hi\n\nthere"},
    {"role": "user", "content": "And?"},
]
NAMES: dict[str, Any] = {"bos_token": "<|bos|>", "eos_token": {"content": "<|eos|>", "lstrip": False}}


def load(directory: Path, template: Any, **config: Any) -> Text:
    return Text.load(write_text_files(directory, tokenizer_config={**NAMES, "chat_template": template, **config}))


@pytest.mark.parametrize("template", [LLAMA_3, ALTERNATING, JSON])
@pytest.mark.parametrize("generation", [True, False])
def test_templates_render_as_in_transformers(tmp_path: Path, template: str, generation: bool) -> None:
    text = load(tmp_path, template)
    oracle = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"),
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        chat_template=template,
    )
    expected = oracle.apply_chat_template(TALK, tokenize=False, add_generation_prompt=generation)
    assert text.render_chat(TALK, add_generation_prompt=generation) == expected
    ids = oracle(expected, add_special_tokens=False)["input_ids"]
    assert text.encode(expected, add_special=False) == ids


def test_where_templates_stand(tmp_path: Path) -> None:
    assert not Text.load(write_text_files(tmp_path)).has_chat_template
    assert load(tmp_path, "from the config").render_chat([]) == "from the config"
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "the default"}]
    assert load(tmp_path, named).render_chat([]) == "the default"
    (tmp_path / "chat_template.jinja").write_text("from its own file", encoding="utf-8")
    assert load(tmp_path, "from the config").render_chat([]) == "from its own file"


def test_special_tokens_of_the_older_file(tmp_path: Path) -> None:
    write_text_files(tmp_path, special_tokens_map={"bos_token": "<|bos|>", "unk_token": "[U]", "eos_token": "other"})
    text = load(tmp_path, "{{ bos_token }}{{ unk_token }}{{ eos_token }}{{ pad_token }}", bos_token=None)
    assert text.render_chat([]) == "<|bos|>[U]<|eos|>"


def test_the_clock_is_the_callers(tmp_path: Path) -> None:
    write_text_files(tmp_path, tokenizer_config={"chat_template": "{{ strftime_now('%d %b %Y') }}"})
    assert Text.load(tmp_path, now=lambda: datetime(2024, 7, 26, tzinfo=UTC)).render_chat([]) == "26 Jul 2024"


def test_a_model_without_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=f"{tmp_path} has no chat template"):
        Text.load(write_text_files(tmp_path)).render_chat(TALK)


@pytest.mark.parametrize(
    "template",
    ["{% for %}", "{{ x", "{% unknown %}", "{% generation %}", 7, [{"name": "a", "template": "x"}], [{"a": 1}], ["x"]],
    ids=str,
)
def test_what_is_no_template_is_named(tmp_path: Path, template: object) -> None:
    with pytest.raises(ModelFault, match=r"tokenizer_config\.json"):
        load(tmp_path, template)


def test_a_template_has_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.client.chat.MAX_TEMPLATE_BYTES", 10)
    with pytest.raises(ModelFault, match="longer than 10"):
        load(tmp_path, "x" * 11)
    (tmp_path / "chat_template.jinja").write_text("x" * 11)
    with pytest.raises(ModelFault, match=r"chat_template\.jinja has more than 10 bytes"):
        load(tmp_path, "x")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (ALTERNATING, "Conversation roles must alternate"),
        ("{{ messages[0].content.missing.deeper }}", "has no attribute"),
        ("{{ messages[0].role + 1 }}", "can only concatenate"),
        ("{{ 1 // 0 }}", "division"),
        ("{{ range(10 ** 9) | list }}", "MAX_RANGE"),
    ],
)
def test_what_a_template_refuses_is_said(tmp_path: Path, template: str, words: str) -> None:
    with pytest.raises(UsageFault, match=words):
        load(tmp_path, template).render_chat([{"role": "assistant", "content": "first"}])


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__globals__.items() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ '{0.__class__.__base__}'.format(messages) }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_templates_are_kept_in_their_sandbox(tmp_path: Path, template: str) -> None:
    text = load(tmp_path, template)
    messages = [{"role": "user", "content": "x"}]
    with pytest.raises((ModelFault, UsageFault)):
        text.render_chat(messages)
    assert messages == [{"role": "user", "content": "x"}]
