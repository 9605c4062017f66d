"""From JSON to a request's fields, and from what is wrong with it to the field that is to blame, named as it was sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import ErrorDetails

from swarm.gateway.http.errors import FieldFault

Read = TypeVar("Read", bound=BaseModel)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Some languages' JSON knows one kind of number only, and writes 64.0 for a whole one.
Whole = Annotated[int, BeforeValidator(_whole)]


def _no_limit(value: Any) -> Any:
    value = _whole(value)
    return None if type(value) is int and value == -1 else value


Limit = Annotated[int | None, BeforeValidator(_no_limit)]  # a number of tokens; -1 is none, as many programs have it


def whole_ids(value: Any) -> Any:
    """Token ids, one prompt's or several prompts'."""
    if not isinstance(value, list):
        return value
    return [whole_ids(each) if isinstance(each, list) else _whole(each) for each in value]


def read_fields(model: type[Read], body: Any, place: str = "") -> Read:
    """A body as a request, or what stands at a place of one. Raises FieldFault naming the first field that is wrong."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise fault_of(error, body, place) from error


def fault_of(error: ValidationError, body: Any, place: str = "") -> FieldFault:
    """Where a value may be one of several things, the thing is blamed that it came nearest to: what fails deepest in it."""
    each = error.errors(include_url=False, include_input=False, include_context=False)
    paths = [_path(detail, body) for detail in each]
    begun = paths[0]
    number = max(
        (number for number, path in enumerate(paths) if path[: len(begun)] == begun),
        key=lambda number: len(paths[number]),
    )
    field, said = (place + _name(paths[number])).removeprefix("."), each[number]["msg"].removeprefix("Value error, ")
    return FieldFault(f"{field}: {said}" if field else said, field or "body")


def _path(detail: ErrorDetails, body: Any) -> tuple[str | int, ...]:
    """Keys and indexes only: what validation calls the alternatives at a place is no part of the request."""
    found: list[str | int] = []
    place, last = body, len(detail["loc"]) - 1
    for number, step in enumerate(detail["loc"]):
        if isinstance(place, Mapping) and (step in place or (number == last and detail["type"] == "missing")):
            place = place.get(step)
        elif isinstance(place, Sequence) and isinstance(step, int) and step < len(place):
            place = place[step]
        else:
            continue
        found.append(step)
    return tuple(found)


def _name(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
