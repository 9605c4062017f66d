"""Which variant of its family a model is, by what its config.json says. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from swarm.model.config_fields import Fields
from swarm.model.families import Family


def variant_of(family: Family, fields: Fields) -> Family:
    """The row as this config changes it. Raises ModelFault naming a field that asks for what is not computed here."""
    for variant in family.variants:
        if _says(fields, variant.says):
            family = replace(family, **variant.changes)
    for field, value in family.required.items():
        if fields.config.get(field, value) != value:
            raise fields.fault(field, f"{fields.config[field]!r} is not supported; only {value!r} is")
    return family


def _says(fields: Fields, says: Mapping[str, Any]) -> bool:
    return all(_value(fields, field, value) == value for field, value in says.items())


def _value(fields: Fields, field: str, wanted: Any) -> Any:
    return fields.flag(field) if isinstance(wanted, bool) else fields.config.get(field)
