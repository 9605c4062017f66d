"""The programs that are recorded: where each comes from, how it is told of the gateway, and how it is asked.

In what follows BASE is the gateway's address, MODEL the model's name, WORK the folder in which the programs work, where
`note.txt` lies, and HOME a home of the program's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from support.probe import SENTENCE

MODEL = "probe"
NOTE = "note.txt"
PICTURE = "picture.png"
NOTE_TEXT = "The heron stands in the reeds.\n"
ASKED = "What does note.txt say?"
DONE = "every turn is whole"  # the last words of a script that ran several
SCRIPTS = Path(__file__).parent / "programs"


def calls(folder: str) -> dict[str, dict[str, Any]]:
    """What the probe model calls, by the tool's name: each reads the note in this folder."""
    note = f"{folder}/{NOTE}"
    return {
        "bash": {"command": f"cat {NOTE}", "description": "Shows the note"},  # opencode, pi
        "exec_command": {"cmd": f"cat {NOTE}"},  # codex
        "shell_command": {"command": f"cat {NOTE}"},  # codex with other models
        "Read": {"file_path": note},  # claude
        f"Read {PICTURE}": {"file_path": f"{folder}/{PICTURE}"},
        "read_file": {"file_path": note},  # qwen
        "read_note": {"name": NOTE},  # the libraries' scripts
        "mcp__notes__read_note": {"name": NOTE},  # the same tool of an MCP server
    }


@dataclass(frozen=True, slots=True)
class Program:
    """One program. In the commands, the environment and the files' text the words above are filled in."""

    name: str
    source: Literal["npm", "pip"]
    packages: tuple[str, ...]  # the first is the one whose version is told
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # by path below HOME
    ends: str = SENTENCE  # stands in what each command says when its turn is whole
    reads: bool = True  # whether it has a tool with which it reads the note
    then: tuple[str, ...] = ()  # a second command, which goes on with the first one's conversation


def _json(value: Any) -> str:
    return json.dumps(value, indent=2)


_OPENCODE = {
    "$schema": "https://opencode.ai/config.json",
    "provider": {
        "swarm": {
            "npm": "@ai-sdk/openai-compatible",
            "name": "swarm",
            "options": {"baseURL": "BASE/v1", "apiKey": "any"},
            "models": {"MODEL": {"name": "MODEL", "limit": {"context": 65536, "output": 8192}}},
        }
    },
}
_READ_NOTE = """\
def read_note(name: str) -> str:
    "Reads a note"
    return open(name).read()
"""
_LLM = """\
- model_id: swarm
  model_name: MODEL
  api_base: BASE/v1
  api_key_name: swarm
  supports_tools: true
  supports_schema: true
"""
_AIDER = ("--no-git", "--yes-always", "--no-check-update", "--no-show-model-warnings", "--analytics-disable")
_CODEX = """\
model = "MODEL"
model_provider = "swarm"

[model_providers.swarm]
name = "swarm"
base_url = "BASE/v1"
wire_api = "responses"
"""
_NOTES_SERVER = f"""
[mcp_servers.notes]
command = "{sys.executable}"
args = ["{SCRIPTS / "notes_server.py"}"]
"""
SCHEMA = {
    "type": "object",
    "properties": {"said": {"type": "string"}},
    "required": ["said"],
    "additionalProperties": False,
}


def _pi(api: str) -> Program:
    base = "BASE" if api == "anthropic-messages" else "BASE/v1"
    model = {"id": "MODEL", "contextWindow": 65536, "maxTokens": 8192}
    provider = {"baseUrl": base, "api": api, "apiKey": "any", "models": [model]}
    return Program(
        f"pi-{api}",
        "npm",
        ("@mariozechner/pi-coding-agent",),
        ("pi", "--provider", "swarm", "--model", "MODEL", "--offline", "-p", ASKED),
        files={".pi/agent/models.json": _json({"providers": {"swarm": provider}})},
    )


def _script(name: str, *packages: str, ends: str = SENTENCE, reads: bool = True) -> Program:
    """A library, asked by a script of ours."""
    script = next(SCRIPTS.glob(f"use_{name.replace('-', '_')}.*"))
    env = {"GATEWAY": "BASE", "OPENAI_API_KEY": "any", "ANTHROPIC_API_KEY": "any"}
    if script.suffix == ".py":
        return Program(name, "pip", packages, ("python", str(script)), env, ends=ends, reads=reads)
    return Program(
        name, "npm", packages, ("node", f"HOME/{script.name}"), env, {script.name: script.read_text()}, ends, reads
    )


def _claude(name: str, asked: str, then: tuple[str, ...] = (), *, reads: bool = True) -> Program:
    return Program(
        name,
        "npm",
        ("@anthropic-ai/claude-code",),
        ("claude", "-p", asked),
        {
            "ANTHROPIC_BASE_URL": "BASE",
            "ANTHROPIC_AUTH_TOKEN": "any",
            "ANTHROPIC_MODEL": "MODEL",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "MODEL",
        },
        then=then,
        reads=reads,
    )


def _codex(name: str, *options: str, more: str = "", ends: str = SENTENCE, then: tuple[str, ...] = ()) -> Program:
    shared = ("codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", *options)
    files = {".codex/config.toml": _CODEX + more, "schema.json": _json(SCHEMA)}
    return Program(
        name, "npm", ("@openai/codex",), (*shared, ASKED), files=files, ends=ends, then=then and (*shared, *then)
    )


PROGRAMS = (
    _claude("claude-code", ASKED),
    _claude("claude-code-picture", f"What does {PICTURE} show?", ("claude", "--continue", "-p", ASKED), reads=False),
    _codex("codex", then=("resume", "--last", "And in short?")),
    _codex("codex-mcp", more=_NOTES_SERVER),
    _codex("codex-schema", "--output-schema", "HOME/schema.json", ends='{"said":""}'),
    Program(
        "opencode",
        "npm",
        ("opencode-ai",),
        ("opencode", "run", "-m", "swarm/MODEL", ASKED),
        files={".config/opencode/opencode.json": _json(_OPENCODE)},
    ),
    *map(_pi, ("openai-completions", "openai-responses", "anthropic-messages")),
    Program(
        "qwen-code",
        "npm",
        ("@qwen-code/qwen-code",),
        ("qwen", "--auth-type", "openai", "-p", ASKED),
        {"OPENAI_BASE_URL": "BASE/v1", "OPENAI_API_KEY": "any", "OPENAI_MODEL": "MODEL"},
    ),
    Program(
        "aider",
        "pip",
        ("aider-chat",),
        ("aider", "--model", "openai/MODEL", *_AIDER, "--message", ASKED),
        {"OPENAI_API_BASE": "BASE/v1", "OPENAI_API_KEY": "any"},
        reads=False,
    ),
    Program(
        "llm",
        "pip",
        ("llm",),
        ("llm", "-m", "swarm", "--functions", _READ_NOTE, ASKED),
        {"OPENAI_API_KEY": "any"},
        files={".config/io.datasette.llm/extra-openai-models.yaml": _LLM},
    ),
    _script("litellm", "litellm"),
    _script("openai-agents", "openai-agents", ends=DONE),
    _script("pydantic-ai", "pydantic-ai-slim[openai]", ends=DONE),
    _script("instructor", "instructor", "openai", ends=DONE, reads=False),
    _script("anthropic-sdk", "anthropic"),
    _script("langchain-openai", "langchain-openai"),
    _script("vercel-ai", "ai", "@ai-sdk/openai", "@ai-sdk/anthropic", "@ai-sdk/openai-compatible", "zod", ends=DONE),
)
