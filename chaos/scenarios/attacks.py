"""Peers that mean harm, and budgets that are full."""

from __future__ import annotations

from chaos.scenarios.model import Scenario

SCENARIOS: tuple[Scenario, ...] = ()
