"""Which model a command means: a directory, a name in the models directory, the demo model, or what the swarm serves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from swarm.checkpoint import open_checkpoint
from swarm.checkpoint.locate import find_model, list_models, model_in, model_name
from swarm.cli.keys import data_directory
from swarm.errors import UsageFault
from swarm.precision import AUTO, Plan, Wishes
from swarm.records import ModelRef
from swarm.span import LayerSpan

DEMO = "demo"
MAX_LISTED = 12  # names that a message lists


def demo_directory() -> Path:
    """The model that comes along."""
    return Path(str(resources.files("swarm.demo"))) / "model"


def models_directory(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Where models are looked up by name."""
    return given or data_directory(environment) / "models"


def model_directory(model: str, models_dir: Path | None) -> Path:
    """The directory of a model: a path, a name, or `demo`. Raises UsageFault saying what is there instead."""
    return find_model(model, models_directory(models_dir), {DEMO: demo_directory()})


def check_layers(
    model: Path, layers: LayerSpan | None, precision: str | None, backend: str, wishes: Wishes | None = None
) -> None:
    """What a config says is read before anything heavy is loaded. Raises ModelFault; UsageFault for a plan of precisions that
    does not fit the model."""
    if backend == "swarm":
        checkpoint = open_checkpoint(model)
        if precision not in (None, AUTO):
            plan = Plan.parse(str(precision)).over(checkpoint.spec.layer_count)
            if wishes is not None:
                plan.given(wishes.activations, wishes.cache)
        if layers is not None:
            checkpoint.spec.check_span(layers, str(model))
        assert checkpoint.spec


def known_models(models_dir: Path | None) -> dict[str, Path]:
    """The models that can be named here, by name."""
    folder = models_directory(models_dir)
    found = {name: model_in(folder, name) for name in list_models(folder)}
    return {DEMO: demo_directory()} | {name: path for name, path in found.items() if path is not None}


def only_model(models_dir: Path | None) -> str:
    """The model to take when none is named and no swarm is asked: the only one there is. Raises UsageFault."""
    names = list(known_models(models_dir))
    if len(names) == 1:
        return names[0]
    raise UsageFault(f"several models are here: name one of {_listed(names)} with --model")


def served_model(served: Iterable[ModelRef], models_dir: Path | None) -> str:
    """The one model that is both served and known here. Raises UsageFault saying what is served and what is known."""
    names = {model.name for model in served}
    usable = [name for name, path in known_models(models_dir).items() if model_name(path) in names]
    if len(usable) == 1:
        return usable[0]
    if usable:
        raise UsageFault(f"the swarm serves several models that are here: name one of {_listed(usable)} with --model")
    if names:
        raise UsageFault(
            f"the swarm serves {_listed(sorted(names))}, and nothing of it is in {models_directory(models_dir)}: a client "
            "needs the model's tokenizer, embedding and head; name its directory with --model"
        )
    raise UsageFault("the swarm serves no model yet: start workers, or name the model to wait for with --model")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
