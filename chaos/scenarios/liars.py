"""Workers that answer wrongly."""

from __future__ import annotations

from chaos.scenarios.model import Scenario

SCENARIOS: tuple[Scenario, ...] = ()
