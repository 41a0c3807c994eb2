"""What other programs see of the environment."""

import json
import os
import sys
from pathlib import Path

import pytest

from harness.environment import for_pip, is_secret, without_secrets
from harness.steps import run_step

KEPT = {
    "PATH": "/bin",
    "HOME": "/root",
    "PWD": "/x",
    "OLDPWD": "/y",
    "LANG": "C",
    "LD_LIBRARY_PATH": "/l",
    "CUDA_VISIBLE_DEVICES": "0",
    "CUDA_HOME": "/c",
    "TOKENIZERS_PARALLELISM": "false",
    "XDG_CACHE_HOME": "/c",
    "HARNESS_CACHE": "/c",
    "KEYBOARD": "us",
    "PASSTHROUGH": "1",
    "CMAKE_ARGS": "-DX=ON",
    "HF_ENDPOINT": "http://h:1",
}
SECRET = {
    "HF_TOKEN": "a",
    "HUGGING_FACE_HUB_TOKEN": "a",
    "OPENAI_API_KEY": "a",
    "RAY_AUTH_TOKEN": "a",
    "my_api_key": "a",
    "GITHUB_TOKEN": "a",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_PROFILE": "a",
    "AZURE_CLIENT_SECRET": "a",
    "PGPASSWORD": "a",
    "GOOGLE_APPLICATION_CREDENTIALS": "/f",
    "DB_PASS": "a",
    "SSH_AUTH_SOCK": "/s",
    "WANDB_APIKEY": "a",
    "NETRC": "/n",
    "DATABASE_URL": "postgres://me:word@host/x",
    "MIRROR": "https://ghp_x@host/",
    "X": "hf_" + "a" * 34,
    "Y": "sk-" + "a" * 40,
    "Z": "-----BEGIN PRIVATE KEY-----",
    "J": "eyJhbGciOiJI.eyJzdWIi.sig",
}
PIPS = {
    "PIP_INDEX_URL": "https://me:word@index/simple",
    "PIP_TRUSTED_HOST": "index",
    "UV_INDEX_URL": "https://index",
    "HTTPS_PROXY": "http://me:word@proxy:3128",
    "http_proxy": "http://proxy",
    "no_proxy": "localhost",
}


def test_secrets_are_known_by_name_or_by_value() -> None:
    assert {name for name, value in {**KEPT, **SECRET}.items() if is_secret(name, value)} == set(SECRET)


def test_an_engine_sees_no_secret_and_pip_its_index() -> None:
    whole = {**KEPT, **SECRET, **PIPS, "PROD": "plain", "TRUST_REMOTE_CODE": "1"}
    assert without_secrets(whole, ["PROD"]) == KEPT
    assert for_pip(whole, ["PROD"]) == {**KEPT, **PIPS}


@pytest.mark.live
def test_a_step_of_an_installation_sees_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    code = "import json, os, sys; open(sys.argv[1], 'w').write(json.dumps(dict(os.environ)))"
    run_step("step", [sys.executable, "-c", code, str(tmp_path / "seen")], tmp_path / "log", lambda text: None)
    seen = json.loads((tmp_path / "seen").read_text())
    assert "HF_TOKEN" not in seen and seen["PATH"] == os.environ["PATH"]
