"""Rotary position embedding as a config.json describes it, in the spellings that there are. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from swarm.model.config_fields import Fields

# "dynamic" turns as "default" does up to the context that the config states, and no session goes beyond that
LOGARITHM_DIGITS = 40  # far beyond what fp64 holds
KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope", "proportional")


def logarithm(number: float) -> float:
    """The natural one, rounded once: what it goes into is part of a model's bits, and C libraries differ in their last digit."""
    with localcontext() as context:
        context.prec = LOGARITHM_DIGITS
        return float(Decimal(number).ln())


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding (Su et al., RoFormer, 2021), perhaps with scaled frequencies."""

    kind: str  # one of KINDS
    theta: float
    factor: float = 1.0  # by which long wavelengths are stretched
    low_frequency_factor: float = 1.0  # llama3
    high_frequency_factor: float = 4.0  # llama3
    original_positions: int = 8192  # llama3, yarn, longrope: the context before it was stretched
    rotated: float = 1.0  # the share of a head that turns
    attention_factor: float = 1.0  # scales cosines and sines
    fast_turns: float = 32.0  # yarn: pairs that turn more often within the original context stay as they are
    slow_turns: float = 1.0  # yarn: pairs that turn less often are stretched by the whole factor
    whole_pairs: bool = True  # yarn: the bounds between these are rounded to whole pairs
    divisors: tuple[float, ...] = ()  # longrope: of each pair's frequency
    turning: float = 1.0  # proportional: the share of pairs that turn; the others stand still where they are
    most_positions: int | None = None  # positions for which the frequencies hold


def read_ropes(fields: Fields, local_theta: str | None, head_dims: tuple[int, int]) -> tuple[Rope, ...]:
    """The rope of layers that see everything and, where it is their own, that of layers with a window; by their heads.

    Both spellings: rope_theta beside rope_scaling, and the newer rope_parameters that holds all of it, perhaps for
    each layer type.
    """
    spelling = "rope_parameters" if "rope_parameters" in fields.config else "rope_scaling"
    scaling = fields.config.get(spelling, {})
    if not isinstance(scaling, dict):
        raise fields.fault(spelling, f"{scaling!r} is no object")
    if "full_attention" in scaling or "sliding_attention" in scaling:
        return _ropes_by_type(fields, spelling, scaling, local_theta, head_dims)
    rope = _rope(fields, spelling, scaling, head_dims[0])
    if local_theta is None:
        # Heads of two widths turn by one table each
        return (rope,) if len(set(head_dims)) == 1 else (rope, _rope(fields, spelling, scaling, head_dims[1]))
    return rope, Rope("default", fields.number(local_theta), rotated=rope.rotated)


def check_ropes(stated: Fields) -> None:
    """Of what a config says itself: raises ModelFault where its two fields for ropes contradict each other."""
    newer, older = (stated.config.get(each) or {} for each in ("rope_parameters", "rope_scaling"))
    if not newer or not isinstance(newer, dict) or not isinstance(older, dict):
        return
    full = newer.get("full_attention") or newer  # older configs say nothing of windows there
    said = {"type": full.get("rope_type"), **full} if isinstance(full, dict) else {}
    for key, value in older.items():
        if value is not None and said.get(key) != value:  # some readers would believe the one field, some the other
            raise stated.fault("rope_scaling", f"{key} {value!r} is not what rope_parameters says: keep one of the two")


def _ropes_by_type(
    fields: Fields, spelling: str, scaling: Mapping[str, Any], local_theta: str | None, head_dims: tuple[int, int]
) -> tuple[Rope, ...]:
    stated = {each: scaling.get(each) or {} for each in ("full_attention", "sliding_attention")}
    for each, parameters in stated.items():
        if not isinstance(parameters, dict):
            raise fields.fault(spelling, f"{each}: {parameters!r} is no object")
    local = {"rope_theta": fields.config.get(local_theta)} if local_theta else {}
    full, sliding = stated["full_attention"], {**local, **stated["sliding_attention"]}
    return _rope(fields, spelling, full, head_dims[0]), _rope(fields, spelling, sliding, head_dims[1])


def _rope(fields: Fields, spelling: str, stated: Mapping[str, Any], head_dim: int) -> Rope:
    scaling = {key: value for key, value in stated.items() if value is not None}
    both = {"partial_rotary_factor": 1.0, **fields.config, **scaling}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    theta, rotated = fields.number("rope_theta", both), fields.number("partial_rotary_factor", both)
    if kind == "proportional" and rotated <= 1:
        return Rope(kind, theta, fields.number("factor", {"factor": 1.0, **scaling}), turning=rotated)
    if rotated > 1 or int(head_dim * rotated) % 2 or not int(head_dim * rotated):
        raise fields.fault("partial_rotary_factor", f"{rotated} of a head of {head_dim} is no number of pairs")
    kind = "longrope" if kind == "su" else kind  # as it was first called
    if kind not in KINDS:
        raise fields.fault(spelling, f"rope_type {kind!r} is not known; known: {', '.join(KINDS)}")
    if kind in ("default", "dynamic"):
        return Rope("default", theta, rotated=rotated)
    if kind == "linear":
        return Rope("linear", theta, fields.number("factor", scaling), rotated=rotated)
    known = "original_max_position_embeddings"
    original = int(fields.number(known, {known: fields.whole("max_position_embeddings"), **scaling, **fields.config}))
    if original < 1 or (kind == "yarn" and theta <= 1):
        raise fields.fault(spelling, f"{original} original positions and a rope_theta of {theta} give no frequencies")
    if kind == "yarn":
        return _yarn(fields, scaling, theta, rotated, original)
    if kind == "longrope":
        return _longrope(fields, scaling, theta, rotated, original, int(head_dim * rotated) // 2)
    low, high = fields.number("low_freq_factor", scaling), fields.number("high_freq_factor", scaling)
    if not low < high:
        raise fields.fault(spelling, f"high_freq_factor {high} must exceed low_freq_factor {low}")
    return Rope("llama3", theta, fields.number("factor", scaling), low, high, original, rotated)


def _yarn(fields: Fields, scaling: Mapping[str, Any], theta: float, rotated: float, original: int) -> Rope:
    """Peng et al., YaRN, 2023; cosines and sines grow with the logarithm of the factor."""
    factor = fields.number("factor", {"factor": fields.whole("max_position_embeddings") / original, **scaling})

    def growth(weight: float) -> float:
        return 0.1 * weight * logarithm(factor) + 1 if factor > 1 else 1.0

    attention = growth(1.0)
    if "attention_factor" in scaling:
        attention = fields.number("attention_factor", scaling)
    elif scaling.get("mscale") and scaling.get("mscale_all_dim"):
        attention = growth(fields.number("mscale", scaling)) / growth(fields.number("mscale_all_dim", scaling))
    turns = {"beta_fast": 32.0, "beta_slow": 1.0} | {key: value for key, value in scaling.items() if value}
    return Rope(
        "yarn",
        theta,
        factor,
        original_positions=original,
        rotated=rotated,
        attention_factor=attention,
        fast_turns=fields.number("beta_fast", turns),
        slow_turns=fields.number("beta_slow", turns),
        whole_pairs=scaling.get("truncate", True) is not False,
    )


def _longrope(
    fields: Fields, scaling: Mapping[str, Any], theta: float, rotated: float, original: int, pairs: int
) -> Rope:
    """Ding et al., LongRoPE, 2024, within the original context.

    Beyond it all frequencies would change, also those of rows that are cached already: no session goes there.
    """
    factor = fields.number("factor", {"factor": fields.whole("max_position_embeddings") / original, **scaling})
    attention = math.sqrt(1 + logarithm(factor) / logarithm(original)) if factor > 1 and original > 1 else 1.0
    if "attention_factor" in scaling:
        attention = fields.number("attention_factor", scaling)
    divisors = scaling.get("short_factor")
    if not isinstance(divisors, list) or len(divisors) != pairs:
        raise fields.fault("short_factor", f"must be a list of {pairs} numbers, one for each pair that turns")
    return Rope(
        "longrope",
        theta,
        factor,
        original_positions=original,
        rotated=rotated,
        attention_factor=attention,
        divisors=tuple(fields.number("short_factor", {"short_factor": each}) for each in divisors),
        most_positions=original,
    )
