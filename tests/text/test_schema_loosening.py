"""What no grammar can express goes, and everything else stays."""

from __future__ import annotations

from typing import Any

import pytest

from swarm.text.schema_loosening import ANYTHING, loosen, loosened

CITY = {"type": "string", "minLength": 1}
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?!x)[a-z]+$"}, "city": CITY}},
     {"type": "object", "properties": {"a": {"type": "string"}, "city": CITY}}),
    ({"type": "object", "properties": {"city": CITY}, "required": None}, {"type": "object", "properties": {"city": CITY}}),
    ({"type": "object", "properties": []}, {"type": "object"}),
    ({"type": "object", "properties": {"a": {"type": "any", "description": "x"}}},
     {"type": "object", "properties": {"a": {"description": "x"}}}),
    ({"properties": {"a": {"$ref": "#/$defs/nowhere"}, "b": {"$ref": "#/$defs/b"}}, "$defs": {"b": CITY}},
     {"properties": {"a": {}, "b": {"$ref": "#/$defs/b"}}, "$defs": {"b": CITY}}),
    ({"properties": {"a": {"enum": None}, "b": {"minimum": "3"}, "c": {"anyOf": [{"type": "any"}, CITY]}}},
     {"properties": {"a": {}, "b": {}, "c": {"anyOf": [{}, CITY]}}}),
]  # fmt: skip


def test_only_what_cannot_be_expressed_goes() -> None:
    given = [CITY, *(schema for schema, _ in CASES)]
    (untouched, *found) = loosen(given)
    assert untouched == ("", CITY)
    assert [schema for _, schema in found] == [expected for _, expected in CASES]
    assert all(complaint for complaint, _ in found)


def test_a_schema_that_cannot_be_saved_or_takes_for_ever_is_any_object(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loosened({"type": "string"}, lambda _: "never") == ANYTHING
    monkeypatch.setattr("swarm.text.schema_loosening.WAIT_SECONDS", 0.0)
    ((complaint, schema),) = loosen([CITY])
    assert "too long" in complaint
    assert schema == ANYTHING
