"""Precision plans: what the weights of each layer of a model are. Text in, a value out; knows nothing of tensors.

`bf16` is a plan, and so are `0-3=bf16,4-23=int4` and `int4+activations-int16+cache-int8`, of which what follows a plus holds for
all layers. A plan is one for the whole model, whichever layers a worker holds, and its name stands in records, in requests for
sessions, and in the numerics class: workers of one plan are exact among each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from swarm.errors import UsageFault
from swarm.span import MAX_LAYERS, LayerSpan, missing_layers, name_layers

AUTO = "auto"  # whichever fits the swarm, the files and the machine
AS_STORED = "as-stored"  # as the files hold them
FLOATS = ("fp32", "bf16", "fp16")
NATIVE = ("fp32", "bf16")  # that torch's kernels compute too, as the only one of a model
PRECISIONS = (*FLOATS, "int8", "int4", AS_STORED)
ACTIVATIONS = ("int8", "int16")  # what rows become for weights that are integers; int8 goes without saying
CACHES = ("bf16", "int8")  # keys and values, where they are not as rows between layers are, which goes without saying
MAX_PLAN_BYTES = 120  # a plan stands in every record twice, the second time in the numerics class
PORTABLE = "portable-1"  # the version of docs/NUMERICS.md: a change of bits is a new number
EVERYWHERE = LayerSpan(0, MAX_LAYERS)  # of a plan that is the same for all layers, however many these are


def any_cut(numerics: str | None) -> bool:
    """Whether rows of a numerics class have the same bits however they are cut into calls: that of portable kernels."""
    return numerics is not None and numerics.startswith(f"{PORTABLE}:")


@dataclass(frozen=True, slots=True)
class Plan:
    """Spans of layers, in order and without gaps, and the precision of each; what rows and caches are besides."""

    parts: tuple[tuple[LayerSpan, str], ...]
    activations: str = "int8"  # of ACTIVATIONS
    cache: str = ""  # of CACHES; empty: as rows are

    @classmethod
    def parse(cls, text: str) -> Plan:
        """`int8`, `0-3=bf16,4-23=int4` in any order, or one of these with `+cache-int8` and the like. Raises UsageFault naming
        what is unknown, missing or twice there."""
        text, *said = text.split("+")
        plan = cls._of_weights(text)
        for what in said:
            key, _, value = what.strip().partition("-")
            if key == "activations":
                plan = plan.given(activations=value)
            elif key == "cache":
                plan = plan.given(cache=value)
            else:
                raise UsageFault(
                    f"--precision {text}+{what}: after a plus comes one of {', '.join(_ADDED)}, not {what.strip()!r}"
                )
        return plan

    @classmethod
    def _of_weights(cls, text: str) -> Plan:
        if "=" not in text:
            return cls(((EVERYWHERE, _known(text)),))
        parts = []
        for part in text.split(","):
            layers, _, name = part.partition("=")
            parts.append((LayerSpan.parse(layers), _known(name)))
        parts.sort()
        for (one, _), (other, _) in pairwise(parts):
            if shared := one.intersection(other):
                raise UsageFault(f"--precision {text}: {name_layers([shared])} twice, in {one} and in {other}")
        missing = missing_layers((span for span, _ in parts), LayerSpan(0, parts[-1][0].stop))
        if missing:
            raise UsageFault(f"--precision {text}: says nothing of {name_layers(missing)}")
        return cls(_merged(parts))

    def over(self, layer_count: int) -> Plan:
        """The same for a model of so many layers. Raises UsageFault naming the layers that it lacks or that do not exist."""
        stop = self.parts[-1][0].stop
        if stop != MAX_LAYERS and stop > layer_count:
            unknown = name_layers([LayerSpan(layer_count, stop)])
            raise UsageFault(f"--precision {self._ranges}: {unknown}: the model has {layer_count} layers, from 0 on")
        if stop < layer_count:
            missing = name_layers([LayerSpan(stop, layer_count)])
            raise UsageFault(f"--precision {self._ranges}: says nothing of {missing}")
        whole = replace(self, parts=((EVERYWHERE, self.parts[0][1]),)) if len(self.parts) == 1 else self
        if len(whole.name) > MAX_PLAN_BYTES:
            raise UsageFault(
                f"--precision: a plan of {len(self.parts)} ranges has {len(whole.name)} letters, and a worker announces at "
                f"most {MAX_PLAN_BYTES}: use fewer ranges"
            )
        return whole

    def given(self, activations: str | None = None, cache: str | None = None) -> Plan:
        """The same with these, where they are given. Raises UsageFault for what is unknown, was said otherwise before, or makes
        no difference."""
        plan = self
        if activations is not None:
            _check_known("--activations", activations, ACTIVATIONS)
            if self.activations not in (ACTIVATIONS[0], activations):
                raise UsageFault(f"--activations {activations}: the plan {self} says {self.activations}")
            if activations != ACTIVATIONS[0] and not self.has_integers:
                raise UsageFault(
                    f"--activations {activations}: of rows for weights that are integers, which the plan {self} has none of"
                )
            plan = replace(plan, activations=activations)
        if cache is not None:
            _check_known("--cache-precision", cache, CACHES)
            if self.cache not in ("", cache):
                raise UsageFault(f"--cache-precision {cache}: the plan {self} says {self.cache}")
            plan = replace(plan, cache="" if cache == self.rows else cache)
        return plan

    @property
    def name(self) -> str:
        """One spelling for each plan of one model."""
        weights = self.parts[0][1] if self.parts[0][0] == EVERYWHERE else self._ranges
        activations = "" if self.activations == ACTIVATIONS[0] else f"+activations-{self.activations}"
        return weights + activations + (f"+cache-{self.cache}" if self.cache else "")

    @property
    def has_integers(self) -> bool:
        """Whether weights of some layers are integers, or may be."""
        return any(name not in FLOATS for _, name in self.parts)

    @property
    def _ranges(self) -> str:
        return ",".join(f"{span}={name}" for span, name in self.parts)

    def __str__(self) -> str:
        return self.name

    def of(self, layer: int) -> str:
        """The precision of a layer."""
        return next(name for span, name in self.parts if layer in span)

    @property
    def last(self) -> str:
        """Of the last layer, which decides for what follows it."""
        return self.parts[-1][1]

    @property
    def only_portable(self) -> bool:
        """Torch's kernels do not compute so."""
        return self.name not in NATIVE

    @property
    def rows(self) -> str:
        """What rows between layers are, and caches of nothing else: fp32 where all weights that are floats are, else bf16."""
        floats = {name for _, name in self.parts} & set(FLOATS)
        return "fp32" if floats == {"fp32"} else "bf16"


def rows_of(plan: str) -> str | None:
    """What rows of a plan's workers are as they travel; None for a plan that is not known here."""
    try:
        return Plan.parse(plan).rows
    except UsageFault:
        return None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a plan must say besides precisions of weights; None: whatever it says."""

    activations: str | None = None  # of ACTIVATIONS
    cache: str | None = None  # of CACHES

    def applied(self, plan: Plan) -> Plan:
        """The same plan so. Without weights that are integers activations make no difference. Raises UsageFault."""
        return plan.given(self.activations if plan.has_integers else None, self.cache)

    def unmet(self, plan: Plan) -> str | None:
        """What the plan says otherwise, in words that go on after its name and "which"; None: nothing."""
        if self.activations is not None and plan.has_integers and plan.activations != self.activations:
            return f"has activations of {plan.activations} and not of {self.activations}"
        if self.cache is not None and (plan.cache or plan.rows) != self.cache:
            return f"has caches of {plan.cache or plan.rows} and not of {self.cache}"
        return None

    @property
    def only_portable(self) -> str | None:
        """The option that torch's kernels do not do; None: there is none."""
        if self.activations not in (None, ACTIVATIONS[0]):
            return f"--activations {self.activations}"
        return f"--cache-precision {self.cache}" if self.cache == "int8" else None


NO_WISHES = Wishes()
_ADDED = tuple(f"activations-{name}" for name in ACTIVATIONS[1:]) + tuple(f"cache-{name}" for name in CACHES)


def _check_known(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageFault(f"{option} {value}: choose one of {', '.join(known)}")


def _known(name: str) -> str:
    name = name.strip()
    if name not in PRECISIONS:
        raise UsageFault(
            f"unknown precision {name!r}; choose one of {', '.join(PRECISIONS)}, or ranges of layers such as "
            "0-3=bf16,4-23=int4"
        )
    return name


def _merged(parts: Iterable[tuple[LayerSpan, str]]) -> tuple[tuple[LayerSpan, str], ...]:
    """Neighbours of one precision as one part."""
    merged: list[tuple[LayerSpan, str]] = []
    for span, name in parts:
        if merged and merged[-1][1] == name:
            span = LayerSpan(merged.pop()[0].start, span.stop)
        merged.append((span, name))
    return tuple(merged)
