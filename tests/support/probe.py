"""A probe model: it writes one fixed call of whichever known tool it is shown, and one sentence once a tool has answered.

With it a program's whole turn can be seen without a clever model: request, stream, tool run by the program, result sent
back, final text. Its weights are made by hand. No layer adds anything to a row, so the next token follows from the last one
alone: each piece of an answer is a token of its own that leads to the next piece, and any other token leads to the end. What
an answer begins with is the last token of the prompt, a mark that the chat template chooses. Where a schema forbids the token
that is due, it writes the shortest JSON that it may.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from support.models import make_config, make_tensors

DEMO = Path(__file__).parents[2] / "swarm" / "demo" / "model"
SENTENCE = "The note says: the heron stands in the reeds."
PIECE = 7  # characters of an answer a token, or a few more
CONTEXT = 131_072
END = 1  # the demo's id of its end
SURE = 400.0  # logit of the token that is due: far beyond the next, whatever the temperature
# Logits of what ends JSON soonest, for answers that are held to a schema; all other tokens have 0.
FALLBACK = {'"': 200.0, "}": 180.0, "]": 180.0, "{": 160.0, "[": 160.0, ",": 140.0, ":": 140.0, "0": 120.0}

# As many models have it: roles in any order, tools and calls by the template. What it ends with is put in by `make_probe`.
LENIENT = """\
{{ bos_token }}{% if tools %}<|user|>
{% for tool in tools %}{{ tool['function'] | tojson }}
{% endfor %}{% endif %}{% for message in messages %}{% if message['role'] == 'assistant' %}<|assistant|>
{{ message['content'] or '' }}{% for call in message['tool_calls'] or [] %}<tool_call>
{{ call['function'] | tojson }}
</tool_call>{% endfor %}{{ eos_token }}{% elif message['role'] == 'tool' %}<|user|>
<tool_response>
{{ message['content'] }}
</tool_response>
{% else %}<|user|>
{{ message['content'] }}
{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>
"""

# As Gemma 3 has it: a system message first or nowhere, then user and assistant in turn, and no word of tools.
STRICT = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}\
{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}\
{% for message in turns %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if message['role'] == 'user' %}<|user|>
{% elif message['role'] == 'assistant' %}<|assistant|>
{% else %}{{ raise_exception('Only user and assistant roles are supported') }}{% endif %}\
{{ (first if loop.first else '') + message['content'] }}\
{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}
{% endfor %}{% if add_generation_prompt %}<|assistant|>
"""


def make_probe(directory: Path, calls: Mapping[str, Mapping[str, Any]], *, strict: bool = False) -> Path:
    """Write the model; returns the directory. `calls` gives the arguments of each tool that it knows, by name. The key may
    be `NAME WORD` too: a call for conversations in which this word was said. The last that fits is the one."""
    answers = [SENTENCE, *(_call(key.split()[0], arguments) for key, arguments in calls.items())]
    marks = [f"<|answer{number}|>" for number in range(len(answers))]
    directory.mkdir(parents=True, exist_ok=True)
    scripts = _write_tokenizer(directory, answers, marks)
    _write_weights(directory, scripts)
    template = (STRICT if strict else LENIENT) + _choice(calls, marks, strict) + "{% endif %}"
    settings = json.loads((DEMO / "tokenizer_config.json").read_text())
    settings |= {"chat_template": template, "model_max_length": CONTEXT}
    settings["additional_special_tokens"] += marks
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def _choice(calls: Mapping[str, Any], marks: list[str], strict: bool) -> str:
    """Jinja that writes the mark of the answer that is due."""
    parts = [f"{{% set due = namespace(mark='{marks[0]}') %}}"]
    for key, mark in zip(calls, marks[1:], strict=True):
        name, *words = key.split()
        shown = f"'\"name\": \"{name}\"' in messages[0]['content']"
        offered = shown if strict else f"tools and '{name}' in (tools | map(attribute='function.name') | list)"
        offered += "".join(f" and '{word}' in (messages | string)" for word in words)
        parts.append(f"{{% if {offered} %}}{{% set due.mark = '{mark}' %}}{{% endif %}}")
    answered = "'<tool_response>' in message['content']" if strict else "message['role'] == 'tool'"
    parts.append(f"{{% for message in messages %}}{{% if {answered} %}}{{% set due.mark = '{marks[0]}' %}}")
    parts.append("{% endif %}{% endfor %}{{ due.mark }}")
    return "".join(parts)


def _write_tokenizer(directory: Path, answers: list[str], marks: list[str]) -> list[list[int]]:
    """The demo's, with the marks as special tokens, and the answers' pieces as tokens that no text is ever read as since
    no merge makes them. Returns the ids of each answer: its mark, its pieces."""
    told = json.loads((DEMO / "tokenizer.json").read_text())
    vocabulary = told["model"]["vocab"]
    scripts = []
    for answer, mark in zip(answers, marks, strict=True):
        pieces = _pieces(
            answer.replace(" ", "Ġ").replace("\n", "Ċ"), vocabulary
        )  # as byte-level vocabularies write them
        script = range(len(vocabulary), len(vocabulary) + 1 + len(pieces))
        vocabulary.update(zip([mark, *pieces], script, strict=True))
        told["added_tokens"].append(told["added_tokens"][-1] | {"id": script[0], "content": mark})
        scripts.append(list(script))
    (directory / "tokenizer.json").write_text(json.dumps(told))
    return scripts


def _pieces(text: str, known: Mapping[str, int]) -> list[str]:
    """The text cut into pieces of which none is known or comes twice, or is a mark: those would be tokens for grammars too."""
    pieces: list[str] = []
    start = 0
    while start < len(text):
        stop = start + PIECE
        while (piece := text[start:stop]) in known or piece in pieces or piece in ("<tool_call>", "</tool_call>"):
            stop += 1
            if stop > len(text):  # what is left is known: it goes with the piece before, which becomes another
                start -= len(pieces.pop())
        pieces.append(text[start:stop])
        start = stop
    return pieces


def _write_weights(directory: Path, scripts: list[list[int]]) -> None:
    """Each token of a script has a direction of its own, which the head reads as the next one; all others share one."""
    steps = [
        (token, following) for script in scripts for token, following in zip(script, [*script[1:], END], strict=True)
    ]
    hidden = -(-(len(steps) + 1) // 64) * 64
    vocab = max(script[-1] for script in scripts) + 1
    config = make_config(
        architectures=["MistralForCausalLM"],
        model_type="mistral",
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=12,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=END,
    )
    tensors = make_tensors(config)
    for name, tensor in tensors.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()
    tensors["model.norm.weight"] = torch.ones(hidden)
    embeddings, head = torch.zeros(vocab, hidden), torch.zeros(vocab, hidden)
    known = json.loads((DEMO / "tokenizer.json").read_text())["model"]["vocab"]
    for text, logit in FALLBACK.items():
        head[known[text]] = logit / hidden**0.5
    head[[token for token, _ in steps]] = -SURE / hidden**0.5  # a piece is nothing to write where another answer is due
    embeddings[:, -1], head[END, -1] = 1.0, SURE / hidden**0.5
    for direction, (token, following) in enumerate(steps):
        embeddings[token] = torch.nn.functional.one_hot(torch.tensor(direction), hidden)
        head[following, direction] = SURE / hidden**0.5
    tensors |= {"model.embed_tokens.weight": embeddings, "lm_head.weight": head}
    (directory / "config.json").write_text(json.dumps(config))
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
