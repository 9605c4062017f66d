"""Prompts for models that bring no chat template: which convention a model was trained on shows in its special tokens.

The templates are written after each convention's own description: ChatML (OpenAI's chat markup), Llama 2 and Llama 3 (Meta's
model cards), Mistral (mistral-common), Gemma (its model card), Alpaca (Stanford's release). Knows nothing of rendering.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Has = Callable[[str], bool]  # whether the vocabulary holds a token

# Conventions without a role for the system's words put them in front of the first message.
_SYSTEM_FIRST = """\
{%- set first = namespace(words='') %}
{%- if messages and messages[0]['role'] in ('system', 'developer') %}
    {%- set first.words = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
"""
CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA_3 = """\
{{- bos_token | default('') }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
GEMMA = (
    "{{- bos_token | default('') }}\n"
    + _SYSTEM_FIRST
    + """\
{%- for message in messages %}
    {{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
    {{- (first.words + '\\n\\n' if loop.first and first.words else '') + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\\n' }}
{%- endif %}
"""
)
MISTRAL = (
    "{{- bos_token | default('') }}\n"
    + _SYSTEM_FIRST
    + """\
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- ' ' + message['content'] | trim + eos_token | default('') }}
    {%- else %}
        {{- '[INST] ' + (first.words + '\\n\\n' if loop.first and first.words else '') + message['content'] | trim + ' [/INST]' }}
    {%- endif %}
{%- endfor %}
"""
)
LLAMA_2 = (
    _SYSTEM_FIRST
    + """\
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- ' ' + message['content'] | trim + ' ' + eos_token | default('') }}
    {%- else %}
        {{- bos_token | default('') + '[INST] ' }}
        {{- '<<SYS>>\\n' + first.words + '\\n<</SYS>>\\n\\n' if loop.first and first.words else '' }}
        {{- message['content'] | trim + ' [/INST]' }}
    {%- endif %}
{%- endfor %}
"""
)
ALPACA = (
    _SYSTEM_FIRST
    + """\
{{- bos_token | default('') + (first.words or 'Below is an instruction that describes a task. \
Write a response that appropriately completes the request.') + '\\n\\n' }}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- '### Response:\\n' + message['content'] | trim + eos_token | default('') + '\\n\\n' }}
    {%- else %}
        {{- '### Instruction:\\n' + message['content'] | trim + '\\n\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '### Response:\\n' }}
{%- endif %}
"""
)
PLAIN = """\
{{- bos_token | default('') }}
{%- for message in messages %}
    {{- message['content'] }}
    {%- if not loop.last %}
        {{- '\\n' }}
    {%- endif %}
{%- endfor %}
"""


@dataclass(frozen=True, slots=True)
class Convention:
    """How a conversation is written down."""

    name: str
    template: str  # Jinja
    tokens: tuple[str, ...]  # all of which the vocabulary of such a model holds


# The first that fits. Llama 2's own tokens say little, so models that have more come before.
CONVENTIONS = (
    Convention("ChatML", CHATML, ("<|im_start|>", "<|im_end|>")),
    Convention("Llama 3", LLAMA_3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    Convention("Gemma", GEMMA, ("<start_of_turn>", "<end_of_turn>")),
    Convention("Mistral", MISTRAL, ("[INST]", "[/INST]")),
    Convention("Alpaca", ALPACA, ("<s>", "</s>", "[PAD]")),
    Convention("Llama 2", LLAMA_2, ("<s>", "</s>", "<unk>", "<0x0A>")),
)
BASE = Convention("plain", PLAIN, ())  # no convention: the messages' words alone


def convention_of(has: Has) -> Convention:
    """The convention that a vocabulary speaks for."""
    return next((each for each in CONVENTIONS if all(map(has, each.tokens))), BASE)
