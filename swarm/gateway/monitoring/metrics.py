"""Figures for Prometheus: requests, tokens, waits, failovers, what the swarm holds. Fed by the event bus and each response."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from swarm.gateway.catalog import Catalog, missing_of
from swarm.gateway.event_bus import BusEvent
from swarm.gateway.generation.generator import Generator
from swarm.records import PeerState

OTHER = "other"  # models whose files are not here
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """One registry for each gateway, so that several may live in a process."""

    def __init__(self, catalog: Catalog, generator: Generator) -> None:
        self._catalog, self._generator = catalog, generator
        self._registry = CollectorRegistry()
        here, by_model = self._registry, ("model",)
        self._requests = Counter("swarm_requests", "HTTP requests", ("path", "status"), registry=here)
        self._prompt = Counter("swarm_prompt_tokens", "Tokens of prompts", by_model, registry=here)
        self._cached = Counter("swarm_cached_prompt_tokens", "Of these, not computed anew", by_model, registry=here)
        self._tokens = Counter("swarm_generated_tokens", "Tokens generated", by_model, registry=here)
        self._failovers = Counter("swarm_failovers", "Workers replaced in running answers", registry=here)
        self._replay = Histogram(
            "swarm_failover_seconds", "From a failure to its repair", buckets=SECONDS, registry=here
        )
        self._first = Histogram(
            "swarm_first_token_seconds",
            "From the open chain to the first token",
            by_model,
            buckets=SECONDS,
            registry=here,
        )
        self._each = Histogram(
            "swarm_token_seconds", "Between two tokens, mean of an answer", by_model, buckets=SECONDS, registry=here
        )
        self._registry.register(self)
        generator.bus.tap(self._happened)

    def text(self) -> bytes:
        """In the exposition format 0.0.4."""
        return generate_latest(self._registry)

    def answered(self, path: str, status: int) -> None:
        """A response began."""
        self._requests.labels(path, str(status)).inc()

    def collect(self) -> Iterable[Metric]:
        """What there is at this moment, for the registry."""
        yield GaugeMetricFamily("swarm_running_answers", "Answers under way", len(self._generator.running))
        workers = GaugeMetricFamily("swarm_workers", "Workers that the directory names", labels=("model", "state"))
        missing = GaugeMetricFamily("swarm_missing_layers", "Layers that nobody serves", labels=("model",))
        counts: dict[tuple[str, str], int] = {}
        records = self._catalog.known_records
        names = {ref.digest: name for name, ref in self._catalog.models.items()}
        for record in records:  # names that strangers announce are no labels: they may announce any number
            key = names.get(record.model.digest, OTHER), record.state.name.lower()
            counts[key] = counts.get(key, 0) + 1
        for name, ref in self._catalog.models.items():
            counts.setdefault((name, PeerState.SERVING.name.lower()), 0)
            if self._catalog.swarms:
                missing.add_metric([name], sum(map(len, missing_of(ref, records))))
        for (name, state), count in sorted(counts.items()):
            workers.add_metric([name, state], count)
        yield workers
        yield missing

    def _happened(self, event: BusEvent) -> None:
        data: Mapping[str, float | str] = event.data
        match event.name, data.get("phase"):
            case "failover", _:
                self._failovers.inc()
                self._replay.observe(float(data["seconds"]))
            case "session", "ended":
                model, count = str(data["model"]), int(data["tokens"])
                self._prompt.labels(model).inc(int(data["prompt_tokens"]))
                self._cached.labels(model).inc(int(data["cached_tokens"]))
                self._tokens.labels(model).inc(count)
                if count:
                    self._first.labels(model).observe(float(data["first_token_s"]))
                if count > 1:
                    self._each.labels(model).observe(float(data["decoding_s"]) / (count - 1))
