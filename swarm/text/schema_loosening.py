"""What no grammar can express is left out of a JSON schema, keyword by keyword, so that all the rest holds.

Run as a program of its own (`loosen`), within bounds of time and memory, for the schemas are strangers'. As such it must not
import anything of swarm's.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

SECONDS = 3  # of computing, for all schemas of a request
WAIT_SECONDS = 30.0  # for that, on a busy machine
MAX_BYTES = 4 << 30  # of address space
MAX_LEFT_OUT = 64  # keywords of one schema
ANYTHING: dict[str, Any] = {"type": "object"}  # what is left of a schema that cannot be saved
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")  # hold schemas by name
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_KEPT = ("$defs", "definitions")  # others refer to them

Place = tuple[dict[str, Any], str]  # a schema and a keyword that it holds
Complaint = Callable[[Any], str]  # why a schema cannot be expressed; empty if it can


def loosen(schemas: Sequence[Any]) -> list[tuple[str, dict[str, Any]]]:
    """For each schema why it cannot be expressed, or nothing, and what of it can."""
    try:
        # isolated: what stands in the working directory or the environment is not run
        ended = subprocess.run(
            [sys.executable, "-I", __file__],
            input=json.dumps(list(schemas)).encode(),
            capture_output=True,
            timeout=WAIT_SECONDS,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return [("it takes too long to prepare: make it simpler", ANYTHING) for _ in schemas]
    return [(complaint, schema) for complaint, schema in json.loads(ended.stdout)]


def loosened(schema: Any, complaint: Complaint) -> dict[str, Any]:
    """What of a schema can be expressed."""
    schema = copy.deepcopy(schema)
    for _ in range(MAX_LEFT_OUT):
        said = complaint(schema)
        if not said:
            return dict(schema)
        places = list(_keywords(schema))
        leaves = [(holder, keyword) for holder, keyword in places if not list(_inner(keyword, holder[keyword]))]
        found = _found(schema, leaves, said, complaint) or _found(schema, places, said, complaint)
        if found is None:
            return ANYTHING
        del found[0][found[1]]
    return ANYTHING


def _found(schema: Any, places: Sequence[Place], said: str, complaint: Complaint) -> Place | None:
    """A keyword without which there is nothing to complain of, or else one that makes room for the next complaint."""
    better: Place | None = None
    for place in places:
        left = _without(schema, place, complaint)
        if not left:
            return place
        better = better or (place if left != said else None)
    return better


def _without(schema: Any, place: Place, complaint: Complaint) -> str:
    """The complaint about the schema without this keyword."""
    holder, keyword = place
    value = holder.pop(keyword)
    try:
        return complaint(schema)
    finally:
        holder[keyword] = value


def _keywords(schema: Any) -> Iterator[Place]:
    """Every keyword with the schema that holds it, the deepest first."""
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        for each in _inner(keyword, value):
            yield from _keywords(each)
    yield from ((schema, keyword) for keyword in list(schema) if keyword not in _KEPT)


def _inner(keyword: str, value: Any) -> Iterator[Any]:
    """The schemas that a keyword holds."""
    if keyword in _NAMED and isinstance(value, dict):
        yield from value.values()
    elif keyword in _LISTED and isinstance(value, list):
        yield from value
    elif keyword in _SINGLE and isinstance(value, dict):
        yield value


def _main() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    from llguidance import LLMatcher, LLTokenizer

    tokenizer = LLTokenizer("byte")

    def complaint(schema: Any) -> str:
        try:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides={"lenient": True})
        except ValueError as error:
            return str(error)
        return str(LLMatcher.validate_grammar(grammar, tokenizer))

    def strictly(schema: Any) -> str:
        try:
            return str(LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(json.dumps(schema)), tokenizer))
        except ValueError as error:
            return str(error)

    json.dump([(strictly(schema), loosened(schema, complaint)) for schema in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    _main()
