"""Chat templates: rendered as transformers renders them, and kept from doing harm."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.tokenizers import write_text_files
from transformers import PreTrainedTokenizerFast

from swarm.errors import ModelFault, UsageFault
from swarm.text.templates.chat_template import ChatTemplate
from swarm.text.tokenizer import Text

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
    assert not Text.load(write_text_files(tmp_path)).chats
    assert load(tmp_path, "from the config").render_chat([]) == "from the config"
    named = [{"name": "tool_use", "template": "with tools"}, {"name": "default", "template": "the default"}]
    assert load(tmp_path, named).render_chat([]) == "the default"
    assert load(tmp_path, named).render_chat([], tools=[{"type": "function"}]) == "with tools"
    assert load(tmp_path, named).template_takes_tools
    (tmp_path / "chat_template.jinja").write_text("from its own file", encoding="utf-8")
    assert load(tmp_path, "from the config").render_chat([]) == "from its own file"


def test_special_tokens_of_the_older_file(tmp_path: Path) -> None:
    write_text_files(tmp_path, special_tokens_map={"bos_token": "<|bos|>", "unk_token": "[U]", "eos_token": "other"})
    text = load(tmp_path, "{{ bos_token }}{{ unk_token }}{{ eos_token }}{{ pad_token }}", bos_token=None)
    assert text.render_chat([]) == "<|bos|>[U]<|eos|>"


def test_the_clock_is_the_callers(tmp_path: Path) -> None:
    write_text_files(tmp_path, tokenizer_config={"chat_template": "{{ strftime_now('%d %b %Y') }}"})
    assert Text.load(tmp_path, now=lambda: datetime(2024, 7, 26, tzinfo=UTC)).render_chat([]) == "26 Jul 2024"


def test_a_template_says_whether_it_takes_tools_and_sees_what_else_it_is_given(tmp_path: Path) -> None:
    text = load(tmp_path, "{{ tools | tojson }} {{ reasoning_effort }}")
    assert text.template_takes_tools
    assert text.render_chat([], tools=[{"a": "ü"}], variables={"reasoning_effort": "low"}) == '[{"a": "ü"}] low'
    assert not load(tmp_path, "{{ messages }}").template_takes_tools


ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "More"},
]
CONVENTIONS = {
    "ChatML": (
        ["<|im_start|>", "<|im_end|>"],
        (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
            "<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n"
        ),
    ),
    "Llama 3": (
        ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        (
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
            "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>user"
            "<|end_header_id|>\n\nMore<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
    ),
    "Gemma": (
        ["<start_of_turn>", "<end_of_turn>"],
        (
            "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
            "<start_of_turn>user\nMore<end_of_turn>\n<start_of_turn>model\n"
        ),
    ),
    "Mistral": (["[INST]", "[/INST]"], "<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] More [/INST]"),
    "Alpaca": (
        ["<s>", "</s>", "[PAD]"],
        "<s>Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello</s>\n\n### Instruction:\nMore\n\n### Response:\n",
    ),
    "Llama 2": (
        ["<s>", "</s>", "<unk>", "<0x0A>"],
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] More [/INST]",
    ),
    "plain": ([], "<s>Be brief.\nHi\nHello\nMore"),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_without_a_template_the_tokens_say_which_convention_it_is(tmp_path: Path, name: str) -> None:
    tokens, expected = CONVENTIONS[name]
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    template = ChatTemplate.load(tmp_path, datetime.now, lambda token: token in tokens)
    assert template.convention == name
    assert template.render(ASKED, True) == expected
    assert not template.takes_tools
    template.render(ASKED[1:], True)  # without a system's words


@pytest.mark.parametrize(
    "template",
    ["{% for %}", "{{ x", "{% unknown %}", "{% generation %}", 7, [{"name": "a", "template": "x"}], [{"a": 1}], ["x"]],
    ids=str,
)
def test_what_is_no_template_is_named(tmp_path: Path, template: object) -> None:
    with pytest.raises(ModelFault, match=r"tokenizer_config\.json"):
        load(tmp_path, template)


def test_a_template_has_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.text.templates.chat_template.MAX_TEMPLATE_BYTES", 10)
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


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** 9 * 'x' }}",
        "{{ 2 ** (2 ** 40) }}",
        "{{ 'x'.center(10 ** 9) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{% set ns = namespace(t='x' * 1000) %}{% for a in range(60) %}{% set ns.t = ns.t ~ ns.t %}{{ ns.t }}{% endfor %}",
    ],
)
def test_a_template_has_bounds(tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.text.templates.sandbox.RENDER_SECONDS", 0.2)
    with pytest.raises(ModelFault, match="does what no template may"):
        load(tmp_path, template).render_chat([])


def test_a_template_may_pad_and_repeat_as_templates_do(tmp_path: Path) -> None:
    template = (
        "{{ '-' * 10 }}{{ '%03d' % 7 }}{{ 'x'.center(5) }}{{ '{:>4}'.format(1) }}{{ 'a' | center(3) }}{{ 2 ** 10 }}"
    )
    assert load(tmp_path, template).render_chat([]) == "----------007  x     1 a 1024"
    words = {"role": "user", "content": " Note: **1234567** 100%*2 {x:1000000} "}
    assert load(tmp_path, "{{ messages[0].content.strip() }}").render_chat([words]) == words["content"].strip()
