"""Options of the HTTP API: which models, which address, whose keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from swarm.cli import options as types
from swarm.cli.keys import bans_file
from swarm.config import ApiConfig
from swarm.errors import ModelFault, UsageFault

api_key_option = click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    envvar="SWARM_API_KEY",
    show_envvar=True,
    help="Programs must send one of these (repeatable); needed where others than this machine can reach the API.",
)
api_option = click.option(
    "--api", type=types.ADDRESS_HERE, help="Answer programs over HTTP as well, at [HOST:]PORT.  [HOST: 127.0.0.1]"
)


def gateway_options(function: Any) -> Any:
    """--gateway and --gateway-key."""
    url = click.option(
        "--gateway", metavar="URL", help="Ask this running API whom its clients avoid, and for how long."
    )
    key = click.option("--gateway-key", envvar="SWARM_API_KEY", show_envvar=True, help="Its key, if it demands one.")
    return url(key(function))


def api_config(
    place: tuple[str, int] | None,
    keys: Sequence[str],
    models: Sequence[str] = (),
    models_dir: Path | None = None,
    **more: Any,
) -> ApiConfig | None:
    """What the options say; None without --api. The demo model and all of `models_dir` are among the models, after those named.

    Raises UsageFault when two of those named have one name, and for an address that needs a key.
    """
    if place is None:
        if keys and not os.environ.get("SWARM_API_KEY"):
            raise UsageFault("--api-key is for programs that ask over HTTP: give --api [HOST:]PORT too")
        return None
    from swarm.checkpoint.locate import list_models, model_in, model_name
    from swarm.cli.models import model_directory
    from swarm.client.client import SHIPPED
    from swarm.gateway.http.auth import check_exposure

    check_exposure(place[0], keys)  # before anything is loaded

    paths = [model_directory(name, models_dir) for name in models]
    _check_names(paths)
    named = tuple(paths)
    if models_dir is not None:
        paths += list(filter(None, (model_in(models_dir, name) for name in list_models(models_dir))))
    taken = set()
    for path in paths:
        with suppress(ModelFault):  # told where the model is read
            taken.add(model_name(path))
    distinct = tuple(dict.fromkeys([*paths, *(path for name, path in SHIPPED.items() if name not in taken)]))
    return ApiConfig(place[0], place[1], tuple(keys), models=distinct, named=named, bans=bans_file(os.environ), **more)


def _check_names(paths: Sequence[Path]) -> None:
    """Programs ask for a model by its name alone: only one of two could be had. Raises UsageFault naming both paths."""
    from swarm.checkpoint.locate import model_name

    known: dict[str, Path] = {}
    for path in paths:
        name = model_name(path)
        first = known.setdefault(name, path)
        if first.resolve() != path.resolve():
            raise UsageFault(
                f"{first} and {path} are both called {name}, and programs ask by name: give --model for one of them"
            )


def how_to_ask(url: str) -> str:
    """What a person does with an API."""
    return f"programs ask at {url}/v1 (OpenAI) and {url} (Anthropic); the console is at {url}/"
