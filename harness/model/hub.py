"""A model from the Hugging Face hub, at one commit."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub.errors as hub_errors
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from harness.errors import HarnessError
from harness.visible import visible

WANTED = ["*.json", "*.safetensors", "tokenizer*", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*"]
UNWANTED = ["*/*", "consolidated*", "*.gguf"]  # other formats of the same weights: twice the download
TIMEOUT_S = 20.0
_COMMIT = re.compile("[0-9a-f]{40}")
# What the client raises for an answer that is not a hub's: it reads keys without looking.
_ODD_ANSWER = (json.JSONDecodeError, AttributeError, KeyError, TypeError)
# The base class of the client's transport errors; which httpx it comes from has changed between releases.
TRANSPORT: type[Exception] = hub_errors.HTTPError  # type: ignore[attr-defined]
BAD_URL: type[Exception] = getattr(sys.modules[TRANSPORT.__module__.partition(".")[0]], "InvalidURL", ValueError)


def download(repo: str, revision: str | None, wanted: Sequence[str] = WANTED) -> tuple[Path, str]:
    """(folder, commit) of `repo` at `revision`, or at the head of its default branch.

    The commit is resolved first and all files are fetched at it: otherwise a push in between would mix two versions.
    Files are in the hub's own cache (HF_HOME), shared with other tools. Offline (HF_HUB_OFFLINE), and where the hub
    cannot be reached, the cache is read: a branch or tag is there with the commit that it was last seen at. Raises
    HarnessError; its messages never contain the token (HF_TOKEN)."""
    shown = visible(f"{repo}@{revision}" if revision else repo)
    if constants.HF_HUB_OFFLINE:
        return _cached(repo, revision, wanted, shown, "HF_HUB_OFFLINE is set")
    try:
        commit = HfApi().model_info(repo, revision=revision, timeout=TIMEOUT_S).sha
        if commit is None or not _COMMIT.fullmatch(commit):  # it names a folder in the cache
            raise HarnessError(f"{shown}: the hub does not name its commit; give one: {repo}@COMMIT.")
        folder = _snapshot(repo, commit, wanted, local=False)
        _remember(repo, revision or constants.DEFAULT_REVISION, commit)
        return folder, commit
    except GatedRepoError:
        raise HarnessError(
            f"{shown}: its owner must grant access: accept the terms at https://huggingface.co/{repo} and set "
            "HF_TOKEN to a token of that account."
        ) from None
    except RevisionNotFoundError:
        raise HarnessError(
            f"{repo}: no revision {visible(repr(revision))} on the hub; give a branch, tag or commit."
        ) from None
    except RepositoryNotFoundError:
        raise HarnessError(
            f"{shown}: neither a local folder nor a model on the hub (a private one needs HF_TOKEN); check the name."
        ) from None
    except HFValidationError:
        raise HarnessError(
            f"{shown}: neither a model that is made here, an existing local folder nor a hub id (organisation/name)."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 429 or status >= 500:
            return _cached(repo, revision, wanted, shown, f"the hub answered with status {status}; try again later")
        wait = "; check HF_TOKEN" if status == 401 else ""
        raise HarnessError(f"{shown}: the hub answered with status {status}{wait}.") from None
    except (TRANSPORT, OSError) as error:
        return _cached(repo, revision, wanted, shown, f"the hub cannot be reached ({type(error).__name__})")
    except UnicodeError:
        raise HarnessError(f"{shown}: HF_TOKEN has characters that no header can carry; set it again.") from None
    except _ODD_ANSWER:
        why = f"{visible(constants.ENDPOINT, 100)} does not answer as a hub does (a proxy's page?); check HF_ENDPOINT"
        return _cached(repo, revision, wanted, shown, why)
    except (ImportError, ValueError, BAD_URL) as error:  # raised while the client is made, from its environment
        more = ": a SOCKS proxy needs the package socksio" if isinstance(error, ImportError) else ""
        return _cached(
            repo, revision, wanted, shown, f"the hub's client cannot use the proxy of HTTPS_PROXY or ALL_PROXY{more}"
        )


def _cached(repo: str, revision: str | None, wanted: Sequence[str], shown: str, why: str) -> tuple[Path, str]:
    """The same from the hub's cache on this machine. Raises HarnessError with `why` if it is not there."""
    commit = _cached_commit(repo, revision or constants.DEFAULT_REVISION)
    if commit is not None:
        with contextlib.suppress(LocalEntryNotFoundError, HFValidationError, *_ODD_ANSWER):
            folder = _snapshot(repo, commit, wanted, local=True)
            if wanted is not WANTED or (folder / "config.json").exists():  # else only a tokenizer was fetched
                return folder, commit
    raise HarnessError(
        f"{shown}: {why}, and it is not in this machine's cache ({constants.HF_HUB_CACHE}); give a local folder or "
        "MODEL=tiny, or download it where the hub can be reached."
    )


def _cached_commit(repo: str, revision: str) -> str | None:
    """The commit that a branch or tag had when it was last fetched; None if it never was."""
    if _COMMIT.fullmatch(revision):
        return revision
    try:
        file = _reference(repo, revision)
        found = file.read_text(encoding="utf-8").strip() if file else ""
    except (OSError, ValueError):
        return None
    return found if _COMMIT.fullmatch(found) else None


def _remember(repo: str, revision: str, commit: str) -> None:
    """Notes the commit of a branch in the cache, as the hub's client does when it fetches by branch: the files were
    fetched by commit, and offline nobody would know which one the branch means."""
    with contextlib.suppress(OSError, ValueError):
        file = None if _COMMIT.fullmatch(revision) else _reference(repo, revision)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(commit, encoding="utf-8")


def _reference(repo: str, revision: str) -> Path | None:
    """The file in the hub's cache that holds a branch's commit; None for a name that leads out of its folder."""
    refs = Path(constants.HF_HUB_CACHE).resolve() / f"models--{repo.replace('/', '--')}" / "refs"
    file = (refs / revision).resolve()
    return file if file.is_relative_to(refs) else None


def _snapshot(repo: str, commit: str, wanted: Sequence[str], local: bool) -> Path:
    return Path(
        snapshot_download(
            repo, revision=commit, allow_patterns=list(wanted), ignore_patterns=UNWANTED, local_files_only=local
        )
    )
