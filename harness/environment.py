"""The environment that other programs get: no tokens and keys, so that no code of a package or a model sees them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

# Names of variables that hold a secret. A part of the name counts only between underscores: PWD and
# TOKENIZERS_PARALLELISM are none.
_NAME = re.compile(
    r"(^|_)(TOKENS?|KEYS?|APIKEY|PASS|PASSWD|PAT|AUTH|COOKIE|JWT|DSN)(_|$)|SECRET|PASSWORD|PASSPHRASE|CREDENTIAL"
    r"|API_?KEY|^AWS_|_AUTH_SOCK$|^GPG_AGENT_INFO$|^NETRC$"
)
# Values that are one, whatever the variable is called: an address with a password, and what services hand out.
_VALUE = re.compile(
    r"://[^/\s@]+@|-----BEGIN |\b(hf_|sk-|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA)[A-Za-z0-9_-]{12,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\."
)
_TRUST = re.compile("TRUST_REMOTE_CODE")  # some engines read it there; here only a candidate's own table says it
_FOR_PIP = re.compile(r"^(PIP|UV)_|^(HTTPS?|ALL|FTP|NO)_PROXY$")  # its index and the way there, often with a password
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def is_secret(name: str, value: str) -> bool:
    """Whether a variable looks like one that holds a token, a key or a password."""
    return bool(_NAME.search(name.upper()) or _VALUE.search(value))


def without_secrets(env: Mapping[str, str], more: Collection[str] = ()) -> dict[str, str]:
    """The environment of a program that needs no network, such as an engine or a converter: without secrets, and
    without pip's settings and proxies. `more`: names of other variables that hold keys."""
    return {n: v for n, v in env.items() if not (n in more or _left_out(n.upper()) or is_secret(n, v))}


def _left_out(name: str) -> bool:
    return bool(_FOR_PIP.search(name) or _TRUST.search(name))


def for_pip(env: Mapping[str, str], more: Collection[str] = ()) -> dict[str, str]:
    """The environment of pip and of what it fetches: without secrets, but with its index settings and proxies, which
    may hold a password."""
    kept = {n: v for n, v in env.items() if _FOR_PIP.search(n.upper()) and n not in more}
    return {**without_secrets(env, more), **kept}
