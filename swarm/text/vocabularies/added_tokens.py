"""Tokens that stand beside a vocabulary: those with a role, such as the end of a text, and those added to it later.

tokenizer_config.json, special_tokens_map.json and added_tokens.json say so in spellings that grew over the years; they are
read as transformers 5 reads them. Knows nothing of vocabularies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from swarm.checkpoint.small_files import read_object
from swarm.errors import ModelFault

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
DECODER, EXTRA, OLDER_EXTRA = "added_tokens_decoder", "extra_special_tokens", "additional_special_tokens"
MAX_DIGITS = 9  # of a token id
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True, slots=True)
class AddedTokens:
    """What is added to a vocabulary."""

    named: Mapping[str, str]  # role -> token
    tokens: tuple[AddedToken, ...]  # as they are added; of two with the same text the first counts
    ids: Mapping[str, int]  # token -> number, where a file states it
    source: Path  # the file that does


@dataclass(frozen=True, slots=True)
class _Stated:
    """What the files say, before what a class of tokenizers takes for granted."""

    roles: Mapping[str, str | AddedToken | None]
    extra: list[str | AddedToken]
    by_id: Mapping[int, AddedToken]
    source: Path


def read_added_tokens(
    directory: Path, config: Mapping[str, Any], defaults: Mapping[str, str], blanks_before_mask: bool
) -> AddedTokens:
    """`config`: what tokenizer_config.json holds; `defaults`: tokens whose roles no file states; `blanks_before_mask`:
    whether they are part of it, where no file says how it is looked for. Raises ModelFault naming the file."""
    stated = _current(directory, config) if DECODER in config else _legacy(directory, config)
    known = {token.content: token for token in stated.by_id.values()}
    named: dict[str, AddedToken] = {}
    for role, value in {**dict.fromkeys(ROLES), **defaults, **stated.roles}.items():
        if isinstance(value, str):
            value = AddedToken(value, special=True, lstrip=blanks_before_mask and role == "mask_token")
        if value is not None:
            named[role] = known.get(value.content, value)
            named[role].special = True
    extra = [AddedToken(value, special=True) if isinstance(value, str) else value for value in stated.extra]
    return AddedTokens(
        {role: token.content for role, token in named.items()},
        (*(token for _, token in sorted(stated.by_id.items())), *named.values(), *extra),
        {token.content: number for number, token in stated.by_id.items()},
        stated.source,
    )


def _current(directory: Path, config: Mapping[str, Any]) -> _Stated:
    """All tokens by their numbers, in tokenizer_config.json."""
    place, by_id = directory / "tokenizer_config.json", dict[int, AddedToken]()
    decoder = config[DECODER]
    if not isinstance(decoder, dict):
        raise ModelFault(f"{place}: {DECODER}: is no object")
    for number, value in decoder.items():
        if not (number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS):
            raise ModelFault(f"{place}: {DECODER}: {number!r} is no token id")
        by_id[int(number)] = _token(value, place, DECODER)
    roles, extra = _roles_and_extra(config, place)
    return _Stated(roles, extra, by_id, place)


def _legacy(directory: Path, config: Mapping[str, Any]) -> _Stated:
    """Roles in special_tokens_map.json, which stands above tokenizer_config.json; numbers in added_tokens.json."""
    roles, extra = _roles_and_extra(config, directory / "tokenizer_config.json")
    place = directory / "special_tokens_map.json"
    more_roles, more = _roles_and_extra(read_object(place), place)
    roles |= more_roles
    extra += [value for value in more if value not in extra]
    place = directory / "added_tokens.json"
    special = {
        each if isinstance(each, str) else each.content for each in (*roles.values(), *extra) if each is not None
    }
    by_id = {}
    for token, number in read_object(place).items():
        if type(number) is not int or number < 0:
            raise ModelFault(f"{place}: {number!r} of {token!r} is no token id")
        by_id[number] = AddedToken(token, normalized=token not in special, special=token in special)
    return _Stated(roles, extra, by_id, place)


def _roles_and_extra(
    stated: Mapping[str, Any], place: Path
) -> tuple[dict[str, str | AddedToken | None], list[str | AddedToken]]:
    roles: dict[str, str | AddedToken | None] = {}
    extra = stated.get(EXTRA) or stated.get(OLDER_EXTRA) or []
    more = extra if isinstance(extra, dict) else {}  # each has a name of its own
    for name, value in (*stated.items(), *more.items()):
        if name in ROLES or name in more or (name.endswith("_token") and isinstance(value, str)):
            roles[name] = None if value is None else _stated(value, place, name)
    if not isinstance(extra, list | dict):
        raise ModelFault(f"{place}: {EXTRA}: {extra!r} is no list of tokens")
    return roles, [] if more else [_stated(value, place, EXTRA) for value in extra]


def _stated(value: Any, place: Path, key: str) -> str | AddedToken:
    """Text is left as it is: how it is looked for is said elsewhere."""
    token = _token(value, place, key, special=True)
    return value if isinstance(value, str) else token


def _token(value: Any, place: Path, key: str, special: bool | None = None) -> AddedToken:
    """Written as text, or as an object with the text and how it is looked for."""
    flags: dict[str, Any] = {name: value[name] for name in _FLAGS if name in value} if isinstance(value, dict) else {}
    content = value.get("content") if isinstance(value, dict) else value
    if not isinstance(content, str) or not all(type(flag) is bool for flag in flags.values()):
        raise ModelFault(f"{place}: {key}: {value!r} is no token")
    try:
        return AddedToken(content, **(flags if special is None else {**flags, "special": special}))
    except UnicodeEncodeError as error:
        raise ModelFault(f"{place}: {key}: {value!r} is no Unicode") from error
