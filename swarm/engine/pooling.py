"""How a model makes one vector of a text's rows, as the files beside its weights say it (those of sentence-transformers).

Where they say nothing, an encoder's vector is the mean of all rows, as they are; a decoder's is its last row, which alone has
seen the whole text, brought to length 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from swarm.checkpoint.small_files import read_json
from swarm.errors import ModelFault

MODULES_FILE = "modules.json"
POOLING_FILE = "config.json"  # in the folder of the module
PROMPTS_FILE = "config_sentence_transformers.json"
LENGTH_FILES = tuple(f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "xlm-roberta"))
MAX_FILE_BYTES = 1 << 20
MAX_MODULES = 16
MAX_SEQUENCE = 1 << 24
MAX_PROMPT_CHARACTERS = 1 << 16
MARK = "pooling_mode_"  # before the name of a mode that is on or off


def _weighted(rows: Tensor) -> Tensor:
    weights = torch.arange(1, rows.shape[0] + 1, dtype=rows.dtype, device=rows.device)
    return (rows * weights[:, None]).sum(0) / weights.sum()


# As their files call them, in the order in which the vectors of several stand beside each other
MODES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "cls_token": lambda rows: rows[0],
    "max_tokens": lambda rows: rows.max(0).values,
    "mean_tokens": lambda rows: rows.mean(0),
    "mean_sqrt_len_tokens": lambda rows: rows.sum(0) / rows.shape[0] ** 0.5,
    "weightedmean_tokens": _weighted,
    "lasttoken": lambda rows: rows[-1],
}
SHORT = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "weightedmean": "weightedmean_tokens"}


@dataclass(frozen=True, slots=True)
class Pooling:
    """`compute` makes a text's vector; its tokens are at most `most_tokens`."""

    modes: tuple[str, ...]  # keys of MODES
    unit: bool  # the vector is brought to length 1
    most_tokens: int | None = None  # longer texts are cut; None: to nothing short of the model's context
    lower_case: bool = False  # of the text, before it is cut into tokens
    prompt: str = ""  # stands before every text

    @property
    def last_only(self) -> bool:
        """Only the last row counts."""
        return self.modes == ("lasttoken",)

    def width(self, hidden: int) -> int:
        """Numbers of a vector."""
        return hidden * len(self.modes)

    def compute(self, rows: Tensor) -> Tensor:
        """fp32 [rows, hidden], after the model's last norm -> [width]."""
        vector = torch.cat([MODES[mode](rows) for mode in self.modes])
        return functional.normalize(vector, dim=0) if self.unit else vector


def read_pooling(directory: Path, both_ways: bool) -> Pooling:
    """What a model's files say. Raises ModelFault naming the file and what of it cannot be honoured."""
    directory = Path(directory)
    most, lower = _lengths(directory)
    path = directory / MODULES_FILE
    if not path.is_file():
        return Pooling(("mean_tokens",) if both_ways else ("lasttoken",), not both_ways, most, lower)
    modules = read_json(path, MAX_FILE_BYTES)
    if not isinstance(modules, list) or not all(isinstance(each, dict) for each in modules[: MAX_MODULES + 1]):
        raise ModelFault(f"{path}: must hold a list of modules")
    kinds = [str(each.get("type", "")).rpartition(".")[2] for each in modules[: MAX_MODULES + 1]]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelFault(
            f"{path}: the modules {', '.join(kinds)} make its vectors; only Transformer, Pooling and, perhaps, Normalize "
            "are known here"
        )
    folder = modules[1].get("path")
    if not isinstance(folder, str) or Path(folder).name != folder or folder in ("", ".."):
        raise ModelFault(f"{path}: Pooling: {folder!r} names no folder beside it")
    path, prompt = directory / folder / POOLING_FILE, _prompt(directory / PROMPTS_FILE)
    stated = _object(path)
    if prompt and stated.get("include_prompt", True) is not True:
        raise ModelFault(f"{path}: include_prompt: {stated['include_prompt']!r} is not supported beside {PROMPTS_FILE}")
    return Pooling(_modes(path, stated), len(kinds) == 3, most, lower, prompt)


def _object(path: Path) -> dict[str, Any]:
    stated = read_json(path, MAX_FILE_BYTES)
    if not isinstance(stated, dict):
        raise ModelFault(f"{path}: must hold a JSON object")
    return stated


def _prompt(path: Path) -> str:
    """What is put before a text that nobody gives another prompt."""
    stated = _object(path) if path.is_file() else {}
    name, prompts = stated.get("default_prompt_name"), stated.get("prompts")
    if name is None:
        return ""
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    if not isinstance(prompt, str):
        raise ModelFault(f"{path}: default_prompt_name: {name!r} is none of its prompts")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise ModelFault(f"{path}: prompts: {len(prompt)} characters are more than {MAX_PROMPT_CHARACTERS}")
    return prompt


def _modes(path: Path, stated: Mapping[str, Any]) -> tuple[str, ...]:
    short = stated.get("pooling_mode")
    if short is not None:
        named: Sequence[Any] = short if isinstance(short, list) else [short]
        modes = [SHORT.get(each, str(each)) if isinstance(each, str) else str(each) for each in named]
    else:
        modes = [key.removeprefix(MARK) for key, on in stated.items() if on is True and key.startswith(MARK)]
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise ModelFault(
            f"{path}: pooling by {', '.join(unknown) or 'nothing'} is not known; known: {', '.join(MODES)}"
        )
    return tuple(mode for mode in MODES if mode in modes)


def _lengths(directory: Path) -> tuple[int | None, bool]:
    """To how many tokens texts are cut, and whether they are put in lower case first."""
    for name in LENGTH_FILES:
        path = directory / name
        if not path.is_file():
            continue
        stated = _object(path)
        most = stated.get("max_seq_length")
        if most is not None and (type(most) is not int or not 1 <= most <= MAX_SEQUENCE):
            raise ModelFault(f"{path}: max_seq_length: {most!r} is no whole number from 1 to {MAX_SEQUENCE}")
        return most, stated.get("do_lower_case") is True
    return None, False
