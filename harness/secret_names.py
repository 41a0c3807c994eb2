"""Values that are kept in no file: those whose name says that they are a password, a key or a token."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from harness.environment import is_secret

T = TypeVar("T")
HIDDEN = "***"
_NAMES = "api_?key|access_?key|secret_?key|private_?key|secret|password|passwd|passphrase|credentials?"
# Of an option, `key` and `token` alone can be anything: --eos-token is no secret, --hf-token is one.
_OPTION = re.compile(rf"(?i)^(\w+_)?({_NAMES}|(auth|access|hf|hub|api|bearer)_token)$")
_NUMBER = re.compile(r"^-?[0-9.]*$")  # VLLM_MAX_TOKENS=4096
SHORTEST = 4  # characters: a shorter value cannot be told from other text


def secret_values(args: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """The values in a launch line and its environment whose names say that they are secrets, the longest first."""
    found = [value for name, value in env.items() if is_secret(name, value)]
    for i, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name.startswith("-") and _OPTION.match(name.lstrip("-").replace("-", "_")):
            found += [value] if equals else list(args[i + 1 : i + 2])
    return tuple(
        sorted(
            {value for value in found if len(value) >= SHORTEST and not _NUMBER.match(value)},
            key=lambda value: (-len(value), value),
        )
    )


def masked(value: T, secrets: Iterable[str]) -> T:
    """The same text, list or mapping, with HIDDEN in place of each of these values."""
    found: T = _without(value, tuple(secrets))
    return found


def _without(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, Mapping):
        return {key: _without(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without(inner, secrets) for inner in value)
    return value
