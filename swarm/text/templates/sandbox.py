"""Where chat templates run: the environment they are written for (transformers' `apply_chat_template`), with bounds.

A template comes with a model and may be anybody's: it sees nothing but its variables, may change none of them, and is stopped
when it takes too long or writes too much. Knows nothing of messages or of models.
"""

from __future__ import annotations

import ctypes
import json
import re
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_RENDERED = 16 << 20  # characters that a template may write
MAX_REPEATED = 1 << 20  # items of a text or list that is multiplied
MAX_POWER_BITS = 4096
RENDER_SECONDS = 5.0
_WIDE_PERCENT = re.compile(r"%[-+ #0.]*(\d{6,}|\*)")  # widths that no prompt needs
_WIDE_BRACES = re.compile(r"\{[^{}]*:[^{}]*(\d{6,}|\{)")


class TooLong(Exception):
    """A template took more time than it is given."""


class Bounded(ImmutableSandboxedEnvironment):
    """Refuses what would take all memory in a single operation, which no watch could interrupt."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for sized, count in ((left, right), (right, left)):
                repeats = isinstance(sized, str | bytes | list | tuple) and isinstance(count, int)
                if repeats and len(sized) * count > MAX_REPEATED:
                    raise SecurityError(f"a text or list of more than {MAX_REPEATED} items")
        elif operator == "**":
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > MAX_POWER_BITS:
                raise SecurityError(f"a number of more than {MAX_POWER_BITS} bits")
        elif isinstance(left, str) and _WIDE_PERCENT.search(left):
            raise SecurityError(f"a text padded to {left!r}")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, function: Any, *given: Any, **named: Any) -> Any:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            if any(isinstance(each, int) and each > MAX_REPEATED for each in (*given, *named.values())):
                raise SecurityError(f"a text of more than {MAX_REPEATED} characters")
            if function.__name__ in ("format", "format_map") and _WIDE_BRACES.search(owner):
                raise SecurityError(f"a text padded to {owner[:40]!r}")
        return super().call(context, function, *given, **named)


def environment(now: Callable[[], datetime]) -> Bounded:
    """With the extensions, filters and functions that chat templates expect."""
    made = Bounded(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
    made.filters["tojson"] = _to_json
    made.filters["center"] = lambda text, width=80: str(text).center(min(width, MAX_REPEATED))
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: now().strftime(form)
    return made


def render(template: Template, variables: dict[str, Any]) -> str:
    """What the template writes. Raises TooLong, SecurityError for too much, and whatever the template raises."""
    with _Watch(RENDER_SECONDS) as watch:
        written, parts = 0, []
        for part in template.generate(variables):
            written += len(part)
            if written > MAX_RENDERED:
                raise SecurityError(f"more than {MAX_RENDERED} characters written")
            parts.append(part)
    if watch.struck:
        raise TooLong(f"it took more than {RENDER_SECONDS:g} s")
    return "".join(parts)


class _Watch:
    """Interrupts the thread that entered it when its time is up, also in a loop that calls nothing."""

    def __init__(self, seconds: float) -> None:
        self._thread = threading.get_ident()
        self._timer = threading.Timer(seconds, self._strike)
        self._lock = threading.Lock()
        self._left = False
        self.struck = False

    def __enter__(self) -> _Watch:
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._timer.cancel()
        with self._lock:
            self._left = True
        if self.struck:
            self._raise(None)  # it may not have come through yet
        return kind is TooLong

    def _strike(self) -> None:
        with self._lock:
            if not self._left:
                self.struck = True
                self._raise(TooLong)

    def _raise(self, error: type[Exception] | None) -> None:
        """CPython: an exception that another thread raises in this one between two instructions; None takes it back."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._thread), None if error is None else ctypes.py_object(error)
        )


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    """Jinja's own filter escapes for HTML and for ASCII, which no model has been trained on."""
    return json.dumps(value, ensure_ascii=options.pop("ensure_ascii", False), indent=indent, **options)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks the model's words for training; here it is just its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
