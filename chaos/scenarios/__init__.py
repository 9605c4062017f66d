"""The scenarios in the order of their numbers. There is a file for each group of them; `model` says what they are made of."""

from __future__ import annotations

from chaos.farm import Layout as Layout
from chaos.scenarios import attacks, churn, crashes, directory, liars, links, slowness, stalls
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

_GROUPS = (attacks, churn, crashes, directory, liars, links, slowness, stalls)
SCENARIOS = tuple(sorted((each for group in _GROUPS for each in group.SCENARIOS), key=lambda each: each.number))
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def find(name: str) -> Scenario | None:
    """By its name or its number."""
    return BY_NAME.get(name) or next((each for each in SCENARIOS if str(each.number) == name), None)
