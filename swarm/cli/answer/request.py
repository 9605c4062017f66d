"""What the command line said of answers, and what a client makes of it. Pure but for the seed that is drawn."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.cli.bootstrap import need_bootstrap
from swarm.cli.models import check_layers, model_directory
from swarm.cli.options import SHORTEST
from swarm.cli.peers import of_sessions
from swarm.config import ClientConfig
from swarm.errors import UsageFault
from swarm.precision import AUTO
from swarm.sampling import Sampling

if TYPE_CHECKING:
    from swarm.client import Options

SEED_BITS = 31  # of a seed drawn anew


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line said. None is not said."""

    prompt: str | None = None
    embed: str | None = None  # a text whose vector is wanted instead of an answer; "-" is each line of stdin
    chain: tuple[str, ...] = ()  # ids or their first digits; empty or SHORTEST: found by the client
    model: str | None = None
    models_dir: Path | None = None
    bootstrap: tuple[tuple[str, int], ...] = ()
    local: bool = False
    precision: str | None = None
    device: str = "cpu"
    backend: str = "swarm"
    numerics: str = "auto"  # with `local`
    threads: int | None = None
    timeout: float | None = None  # seconds
    audit: float = ClientConfig().audit_share
    audit_private: bool = False
    exact: bool = False
    exact_class: str | None = None
    through_client: bool = False
    standby: bool = False
    regions: tuple[str, ...] = ()
    max_latency: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: tuple[tuple[int, ...], ...] = ()
    raw: bool = False
    as_json: bool = False
    key: Path | None = None
    swarm_key: bytes | None = field(default=None, repr=False)
    api: tuple[str, int] | None = None  # where programs may ask meanwhile
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    verbose: bool = False
    hint: bool = True  # say so if one machine would do
    drawn_seed: int = field(default_factory=lambda: secrets.randbits(SEED_BITS))

    @property
    def named(self) -> tuple[str, ...]:
        """The workers that are to be used."""
        return () if self.chain == SHORTEST else self.chain

    @property
    def plan(self) -> str | None:
        """What of precisions was asked for."""
        return None if self.precision == AUTO else self.precision

    def check(self) -> None:
        """What is wrong is told before anything heavy is loaded. Raises UsageFault, ModelFault."""
        self.sampling()
        if self.local and self.named:
            raise UsageFault("--local computes every layer here and --chain names workers: use one of them")
        if self.local and self.exact_class is not None:
            raise UsageFault(
                "--local computes every layer here and --exact-class names what workers compute in: use one"
            )
        if not self.local:
            need_bootstrap(self.bootstrap)
        if self.model is not None:
            check_layers(model_directory(self.model, self.models_dir), None, self.precision, self.backend)

    def sampling(self) -> Sampling:
        """Raises UsageFault."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return Sampling(**given, seed=self.drawn_seed if self.seed is None else self.seed)

    def options(self) -> Options:
        """Raises UsageFault."""
        from swarm.client import Options

        options = Options(sampling=self.sampling(), stop=self.stop, stop_ids=self.stop_ids)
        return options if self.max_tokens is None else replace(options, max_tokens=self.max_tokens)

    def client_config(self) -> ClientConfig:
        chosen = of_sessions(
            self.exact, self.exact_class, self.through_client, self.standby, self.regions, self.max_latency
        )
        shortest = self.chain == SHORTEST
        config = ClientConfig(audit_share=self.audit, audit_private=self.audit_private, shortest=shortest, **chosen)
        if self.timeout is None:
            return config
        return replace(config, deadline_seconds=self.timeout, open_seconds=self.timeout)
