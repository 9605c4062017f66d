"""The scenarios in the order of their numbers. There is a file for each group of them; `model` says what they are made of."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.farm import Layout as Layout
from chaos.scenarios import (
    attacks,
    churn,
    crashes,
    directory,
    liars,
    links,
    moving,
    namespaces,
    short,
    slowness,
    soak,
    stalls,
    startup,
    unlike,
)
from chaos.scenarios.model import MID_PROMPT as MID_PROMPT
from chaos.scenarios.model import MOMENTS as MOMENTS
from chaos.scenarios.model import PROMPT_ROWS as PROMPT_ROWS
from chaos.scenarios.model import TOKENS as TOKENS
from chaos.scenarios.model import Case as Case
from chaos.scenarios.model import Limits as Limits
from chaos.scenarios.model import Moment as Moment
from chaos.scenarios.model import Scenario as Scenario
from chaos.scenarios.model import Strike as Strike
from chaos.scenarios.model import Target as Target

STORM = soak.STORM
NAMED = (STORM, short.SHORT)  # not among `all`
_GROUPS = (attacks, churn, crashes, directory, liars, links, moving, slowness, soak, stalls, startup, unlike)
SCENARIOS = tuple(sorted((each for group in _GROUPS for each in group.SCENARIOS), key=lambda each: each.number))
MACHINES = namespaces.SCENARIOS  # for `run --namespaces`


def find(name: str, listed: Sequence[Scenario] = SCENARIOS) -> Scenario | None:
    """By its name or its number."""
    listed = (*listed, *NAMED)
    by_name = {scenario.name: scenario for scenario in listed}
    return by_name.get(name) or next((each for each in listed if str(each.number) == name), None)
