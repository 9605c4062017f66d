"""From what went wrong to a status and a body in the words of the API that was asked.

OpenAI: `{"error": {"message", "type", "param", "code"}}`; Anthropic: `{"type": "error", "error": {"type", "message"}}` (their API
references). Pure: an error in, a `Refusal` out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swarm.errors import (
    AuditFault,
    DeadlineExceeded,
    NoChain,
    NoSwarm,
    Overloaded,
    PeerFault,
    PromptTooLong,
    SwarmError,
    UsageFault,
    WrongModel,
)
from swarm.gateway.http.sse import Stopping
from swarm.span import name_layers

MAX_SHOWN = 2000  # characters of a message
_OPTION = re.compile(r"(?:(?:a token|the names) of )?(?P<field>[a-z]+_[a-z_]+|temperature|seed|n)\b")
_PROMPT = ("the prompt", "token id", "the text", "an empty text")


class FieldFault(UsageFault):
    """A field of a request that cannot be honoured; it is named."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class UnknownModel(UsageFault):
    """A model that this gateway does not answer for; those that it does are named."""


class UnknownResponse(UsageFault):
    """A response that is not kept here (any more), or that is another owner's."""


class NotHere(UsageFault):
    """Something that other servers have and this one has not; programs that know of it go on without."""


class Unauthorised(UsageFault):
    """No key, or a wrong one."""


class Forbidden(UsageFault):
    """A web page that may not ask here."""


class BodyTooLong(FieldFault):
    """More bytes than are taken."""


class UnknownEncoding(UsageFault):
    """A body in an encoding that is not known here."""


class BodyTooSlow(FieldFault):
    """A body that did not come in time."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as HTTP has it."""

    status: int
    message: str
    kind: str  # OpenAI's type of error
    code: str | None = None
    param: str | None = None  # the field that is to blame
    retry_after: int | None = None  # seconds
    anthropic_message: str | None = None  # where Anthropic's clients look for other words
    allow: tuple[str, ...] = ()  # methods that are taken

    @property
    def headers(self) -> dict[str, str]:
        found = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.allow:
            found["allow"] = ", ".join(self.allow)
        return found | ({"www-authenticate": "Bearer"} if self.status == 401 else {})

    def openai(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def anthropic(self) -> dict[str, Any]:
        kind = _ANTHROPIC.get(self.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.anthropic_message or self.message}}


_ANTHROPIC: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def refusal_of(error: BaseException) -> Refusal:
    """What to answer. Errors that were not raised on purpose are told without their text: it may hold anything."""
    message = str(error)[:MAX_SHOWN]
    match error:
        case Unauthorised():
            return Refusal(401, message, "authentication_error", "invalid_api_key")
        case Forbidden():
            return Refusal(403, message, "invalid_request_error", "forbidden")
        case NotHere():
            return Refusal(404, message, "invalid_request_error", "not_found")
        case UnknownResponse():
            return Refusal(404, message, "invalid_request_error", "response_not_found", "previous_response_id")
        case BodyTooLong():
            return Refusal(413, message, "invalid_request_error", "body_too_long", error.field)
        case UnknownEncoding():
            return Refusal(415, message, "invalid_request_error", "unknown_encoding", "content-encoding")
        case BodyTooSlow():
            return Refusal(408, message, "invalid_request_error", "body_too_slow", error.field)
        case UnknownModel():
            return Refusal(404, message, "invalid_request_error", "model_not_found", "model")
        case PromptTooLong():
            return _too_long(error)
        case FieldFault():
            return Refusal(400, message, "invalid_request_error", None, error.field)
        case UsageFault():  # those of the client's own begin with the option that is to blame
            return Refusal(400, message, "invalid_request_error", None, _blamed(message))
        case Overloaded():
            wait = max(1, math.ceil(error.retry_after))
            return Refusal(429, message, "rate_limit_error", "overloaded", retry_after=wait)
        case NoChain():
            named = name_layers(error.missing) if error.missing else ""
            message = message if named in message else f"{message} ({named})"
            return Refusal(503, message, "server_error", "layers_missing", retry_after=5)
        case NoSwarm() | WrongModel():
            return Refusal(503, message, "server_error", "no_swarm", retry_after=5)
        case Stopping():
            return Refusal(503, message, "server_error", "shutting_down", retry_after=5)
        case DeadlineExceeded():
            return Refusal(504, message, "server_error", "deadline_exceeded")
        case PeerFault() | AuditFault():
            return Refusal(502, message, "server_error", "peer_fault")
        case SwarmError():
            return Refusal(500, message, "server_error", "internal_error")
    return Refusal(500, "the gateway failed; its log says how", "server_error", "internal_error")


def _blamed(message: str) -> str | None:
    """The field that a fault of the client's own is about."""
    if message.startswith(_PROMPT):
        return "messages"
    option = _OPTION.match(message)
    return "stop" if message.startswith(("a stop", "an empty stop")) else option["field"] if option else None


def _too_long(error: PromptTooLong) -> Refusal:
    """In the words by which programs know that they have to shorten a conversation."""
    message = told = str(error)
    if error.tokens is not None and error.most is not None:
        message = (
            f"This model's maximum context length is {error.most} tokens. However, your messages resulted in "
            f"{error.tokens} tokens. Please reduce the length of the messages."
        )
        told = f"prompt is too long: {error.tokens} tokens > {min(error.most, error.tokens - 1)} maximum"
    code = "context_length_exceeded"
    return Refusal(400, message, "invalid_request_error", code, "messages", anthropic_message=told)
