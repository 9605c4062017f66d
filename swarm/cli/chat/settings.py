"""What `/set` sets: every option of how an answer is drawn, by its name. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from swarm.client.generate import DEFAULT_MAX_TOKENS, Options
from swarm.errors import UsageFault
from swarm.sampling import Sampling

DEFAULT = "default"  # as a value: what holds when nothing is set
SWITCHES = {"on": True, "off": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set."""

    parse: Callable[[str], Any]
    usual: str  # what holds otherwise
    meaning: str


def _whole(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text  # what takes it says what it wants


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _most(text: str) -> int | None:
    if text.lower() in ("none", "off"):
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageFault(f"max_tokens must be a whole number of at least 1, or none, not {text!r}")
    return int(text)


def _switch(name: str) -> Callable[[str], bool]:
    def parse(text: str) -> bool:
        if text.lower() not in SWITCHES:
            raise UsageFault(f"{name} must be on or off, not {text!r}")
        return SWITCHES[text.lower()]

    return parse


def _stops(text: str) -> tuple[str, ...]:
    """A text as it is, or in JSON a text or several."""
    if text[:1] not in ('"', "["):
        return (text,)
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageFault(f"stop is no JSON: {error}") from error
    stops = value if isinstance(value, list) else [value]
    if not all(isinstance(stop, str) for stop in stops):
        raise UsageFault(f"stop must be a text or a list of texts, not {text!r}")
    return tuple(stops)


def _bias(text: str) -> tuple[tuple[int, Any], ...]:
    pairs = [part.partition(":") for part in text.replace(" ", "").split(",")]
    return tuple((_whole(token), _number(bias)) for token, _, bias in pairs)


SETTINGS: Mapping[str, Setting] = {
    "temperature": Setting(_number, "0", "0 is greedy, higher draws more freely"),
    "top_k": Setting(_whole, "0", "draw from the K likeliest tokens; 0: all"),
    "top_p": Setting(_number, "1", "draw from the likeliest that make up P"),
    "min_p": Setting(_number, "0", "leave out what is less likely than this share of the best"),
    "repetition_penalty": Setting(_number, "1", "above 1: shun what was said"),
    "presence_penalty": Setting(_number, "0", "shun tokens that the answer holds"),
    "frequency_penalty": Setting(_number, "0", "the same, for each time that it holds them"),
    "logit_bias": Setting(_bias, "none", "ID:BIAS,ID:BIAS… added to these tokens' logits"),
    "seed": Setting(_whole, "drawn", "same seed, same answer"),
    "max_tokens": Setting(_most, str(DEFAULT_MAX_TOKENS), "length of an answer at most; none: to the context's end"),
    "stop": Setting(_stops, "none", 'end before this text; in JSON several: ["a","b"]'),
    "ignore_eos": Setting(_switch("ignore_eos"), "off", "go on after the model's own end"),
    "markdown": Setting(_switch("markdown"), "on", "show answers as Markdown"),
}
_OF_OPTIONS = ("max_tokens", "stop", "ignore_eos")
_OF_SAMPLING = tuple(each.name for each in fields(Sampling))


@dataclass(frozen=True, slots=True)
class Settings:
    """What was set; everything else is as usual."""

    given: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Options, seed: int | None) -> Settings:
        """What the command line said; `seed` None: it said none."""
        usual, sampling = Options(), options.sampling
        given = {name: getattr(sampling, name) for name in _OF_SAMPLING if name != "seed"}
        given = {name: value for name, value in given.items() if value != getattr(usual.sampling, name)}
        given |= {
            name: getattr(options, name) for name in _OF_OPTIONS if getattr(options, name) != getattr(usual, name)
        }
        return cls(given if seed is None else given | {"seed": seed})

    def set(self, name: str, text: str) -> Settings:
        """With one more set. Raises UsageFault naming it."""
        name = known(name)
        rest = {key: value for key, value in self.given.items() if key != name}
        if text.lower() == DEFAULT:
            return Settings(rest)
        changed = Settings(rest | {name: SETTINGS[name].parse(text)})
        changed.options(0)
        return changed

    def options(self, drawn_seed: int) -> Options:
        """Raises UsageFault naming what is out of range."""
        sampling = {"seed": drawn_seed} | {name: self.given[name] for name in _OF_SAMPLING if name in self.given}
        return Options(
            sampling=Sampling(**sampling), **{name: self.given[name] for name in _OF_OPTIONS if name in self.given}
        )

    @property
    def markdown(self) -> bool | None:
        """None: nobody said."""
        value: bool | None = self.given.get("markdown")
        return value

    def describe(self) -> str:
        """A line for each."""
        width = max(map(len, SETTINGS))
        lines = []
        for name, setting in SETTINGS.items():
            value = shown(name, self.given[name]) if name in self.given else setting.usual
            mark = "*" if name in self.given else " "
            lines.append(f"{mark} {name:<{width}}  {value:<10}  {setting.meaning}")
        return "\n".join(lines)

    def as_data(self) -> dict[str, str]:
        """As one would type them."""
        return {name: shown(name, value) for name, value in self.given.items()}

    @classmethod
    def from_data(cls, data: Mapping[str, str]) -> Settings:
        """Raises UsageFault naming what is wrong."""
        settings = cls()
        for name, text in data.items():
            settings = settings.set(name, text)
        return settings


def known(name: str) -> str:
    """A setting's name, however it is written. Raises UsageFault."""
    plain = name.lower().replace("-", "_")
    if plain not in SETTINGS:
        raise UsageFault(f"there is nothing named {name!r} to set: {', '.join(SETTINGS)}")
    return plain


def shown(name: str, value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    if name == "stop":
        return json.dumps(list(value), ensure_ascii=False)
    if name == "logit_bias":
        return ",".join(f"{token}:{bias:g}" for token, bias in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
