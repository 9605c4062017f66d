"""What a conversation holds that no model of text reads: images, files, calls of tools that ran elsewhere.

A program sends its whole history each time, and whoever uses it cannot edit that: only what somebody has just asked may be
refused. In all else text is shown where there is any, a short mark where there is none. Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

from swarm.gateway.http.errors import FieldFault

MAX_SHOWN = 4096  # characters of a foreign call or of its result
TEXTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text")
_KINDS = {"image_url": "image", "input_image": "image", "computer_screenshot": "image", "input_audio": "audio"}
_KINDS |= {"input_file": "file", "document": "file", "video_url": "video", "input_video": "video"}
# Of a foreign call: what says nothing to a model, or is no text.
_SILENT = ("type", "id", "call_id", "status", "cache_control", "tool_use_id", "result", "signature", "caller")
_TEXT_MEDIA = ("text/", "application/json")


def last_asked(roles: Sequence[str]) -> int | None:
    """The place of what somebody has just asked, if a person did: not after an answer, nor beside a tool's result."""
    for place in reversed(range(len(roles))):
        if roles[place] not in ("system", "developer"):
            by_a_person = roles[place] == "user" and (place == 0 or roles[place - 1] not in ("tool", "function"))
            return place if by_a_person else None
    return None


def text_of(part: Mapping[str, Any], field: str, *, asked: bool) -> str:
    """A part of a message as text; `asked`: by somebody who can leave it out. Raises FieldFault naming it then."""
    words = _words(part, field)
    if words is not None:
        return words
    if asked:
        raise FieldFault(f"{field} is {part.get('type')!r}: this model reads text only; leave it out", field)
    return mark(part)


def parts_text(content: Any, field: str, *, asked: bool = False) -> str:
    """A text or a list of parts, joined by newlines. Raises FieldFault."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        raise FieldFault(f"{field} is neither text nor a list of parts", field)
    return "\n".join(text_of(part, f"{field}[{number}]", asked=asked) for number, part in enumerate(content))


def mark(part: Mapping[str, Any]) -> str:
    """What stands in the place of something that is no text."""
    kind = str(part.get("type", "part"))
    inner = part.get("file")
    named = {**inner, **part} if isinstance(inner, Mapping) else part
    names = (named.get(each) for each in ("filename", "title", "file_name"))
    name = next((each for each in names if isinstance(each, str) and each), "")
    what = " ".join(filter(None, (_KINDS.get(kind, kind), name[:128])))
    return f"[{what} left out: this model reads text only]"


def foreign_call(item: Mapping[str, Any]) -> str:
    """A call that was not made through functions, or the result of one, as text."""
    kind = str(item.get("type", "item"))
    said = {name: each for name, each in item.items() if name not in _SILENT and each not in (None, "", [], {})}
    return f"[{kind}: {shown(said)}]" if said else f"[{kind}]"


def _words(part: Mapping[str, Any], field: str) -> str | None:
    """The text that a part is; None where it is none."""
    kind = part.get("type")
    if kind in TEXTS or kind == "refusal":
        name = "refusal" if kind == "refusal" else "text"
        words = part.get(name)
        if not isinstance(words, str):
            said = "is missing" if words is None else "should be a text"
            raise FieldFault(f"{field}.{name} {said}", f"{field}.{name}")
        return words
    if kind == "document":
        return _document(part)
    if kind in ("file", "input_file"):
        inner = part.get("file")
        return _of_data_url((inner if isinstance(inner, Mapping) else part).get("file_data"))
    if kind == "search_result":
        found = [part.get("title"), part.get("source"), _inner(part.get("content"))]
        return "\n".join(each for each in found if isinstance(each, str) and each)
    if isinstance(kind, str) and kind.endswith(("tool_use", "tool_result", "tool_call")):
        return foreign_call(part)
    return None


def _document(part: Mapping[str, Any]) -> str | None:
    """Anthropic's: a text, or blocks, or a file."""
    source = part.get("source")
    source = source if isinstance(source, Mapping) else {}
    words = source.get("data") if source.get("type") == "text" else _inner(source.get("content"))
    if not isinstance(words, str):
        return None
    return "\n".join(each for each in (part.get("title"), part.get("context"), words) if isinstance(each, str) and each)


def _inner(content: Any) -> str | None:
    """Blocks within a part."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    blocks = [each for each in content if isinstance(each, Mapping)]
    return "\n".join(text if isinstance(text := each.get("text"), str) else mark(each) for each in blocks)


def _of_data_url(value: Any) -> str | None:
    """A file that is text."""
    head, comma, data = value.partition(",") if isinstance(value, str) else ("", "", "")
    if not comma or not head.removeprefix("data:").startswith(_TEXT_MEDIA) or not head.endswith(";base64"):
        return None
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def shown(value: Any) -> str:
    """As JSON, within a bound; what is no text is marked, what only its maker can read left out."""
    text = json.dumps(_readable(value), ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} …"


def _readable(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {name: each for name, each in value.items() if "encrypted" not in name}
        return mark(kept) if kept.get("type") in _KINDS else {name: _readable(each) for name, each in kept.items()}
    return [_readable(each) for each in value] if isinstance(value, list) else value
