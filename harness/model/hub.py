"""A model from the Hugging Face hub, at one commit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub.errors as hub_errors
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from harness.errors import HarnessError

WANTED = ["*.json", "*.safetensors", "tokenizer*", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*"]
UNWANTED = ["*/*", "consolidated*", "*.gguf"]  # other formats of the same weights: twice the download
TIMEOUT_S = 20.0
# The base class of the client's transport errors; which httpx it comes from has changed between releases.
TRANSPORT: type[Exception] = hub_errors.HTTPError  # type: ignore[attr-defined]


def download(repo: str, revision: str | None, wanted: Sequence[str] = WANTED) -> tuple[Path, str]:
    """(folder, commit) of `repo` at `revision`, or at the head of its default branch.

    The commit is resolved first and all files are fetched at it: otherwise a push in between would mix two versions.
    Files are in the hub's own cache (HF_HOME), shared with other tools. Without a network, a revision that is a full
    commit is read from that cache. Raises HarnessError; its messages never contain the token (HF_TOKEN)."""
    shown = f"{repo}@{revision}" if revision else repo
    try:
        commit = HfApi().model_info(repo, revision=revision, timeout=TIMEOUT_S).sha
        if commit is None:
            raise HarnessError(f"{shown}: the hub does not name its commit; give one: {repo}@COMMIT.")
        return _snapshot(repo, commit, wanted, local=False), commit
    except GatedRepoError:
        raise HarnessError(
            f"{shown}: its owner must grant access: accept the terms at https://huggingface.co/{repo} and set "
            "HF_TOKEN to a token of that account."
        ) from None
    except RevisionNotFoundError:
        raise HarnessError(f"{repo}: no revision '{revision}' on the hub; give a branch, tag or commit.") from None
    except RepositoryNotFoundError:
        raise HarnessError(
            f"{shown}: neither a local folder nor a model on the hub (a private one needs HF_TOKEN); check the name."
        ) from None
    except HFValidationError:
        raise HarnessError(
            f"{shown}: neither 'tiny', an existing local folder nor a hub id (organisation/name)."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        wait = "; try again later" if status == 429 or status >= 500 else "; check HF_TOKEN" if status == 401 else ""
        raise HarnessError(f"{shown}: the hub answered with status {status}{wait}.") from None
    except (TRANSPORT, OSError) as error:
        if revision and re.fullmatch("[0-9a-f]{40}", revision):
            try:
                return _snapshot(repo, revision, wanted, local=True), revision
            except LocalEntryNotFoundError:
                pass
        raise HarnessError(
            f"{shown}: the hub cannot be reached ({type(error).__name__}); give a local folder, MODEL=tiny, or "
            "a commit that is in this machine's cache."
        ) from None


def _snapshot(repo: str, commit: str, wanted: Sequence[str], local: bool) -> Path:
    return Path(
        snapshot_download(
            repo, revision=commit, allow_patterns=list(wanted), ignore_patterns=UNWANTED, local_files_only=local
        )
    )
