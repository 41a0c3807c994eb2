"""Passwords, keys and tokens in a candidate's table are kept in no file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engines.fake import ENGINE
from harness.campaign.contender import Contender
from harness.records.manifest import ModelFacts
from harness.secret_names import HIDDEN, masked, secret_values
from harness.workload.candidate import Candidate
from harness.workload.plan import read_plan, stored
from tests.compare_parts import small_file

ARGS = (
    "--api-key",
    "sk-12345",
    "--hf-token=hf_67890",
    "--eos-token",
    "</s>",
    "--max-tokens",
    "4096",
    "--key-cache",
    "fp8",
)
ENV = {
    "DB_PASSWORD": "hunter22",
    "MY_API_KEY": "abcdef",
    "HF_TOKEN": "x",
    "TOKENIZERS_PARALLELISM": "true",
    "KEYS": "12345",
}


def test_values_are_found_by_their_names() -> None:
    assert secret_values(ARGS, ENV) == ("hf_67890", "hunter22", "sk-12345", "abcdef")


@pytest.mark.parametrize(
    "args", [("--ssl-keyfile", "/etc/key.pem"), ("--num-token", "1234"), ("-k", "12345"), ("--api-key",)]
)
def test_other_options_are_none(args: tuple[str, ...]) -> None:
    assert secret_values(args, {}) == ()


def test_they_are_hidden_wherever_they_stand() -> None:
    found = masked({"line": ("a", "--api-key=sk-12345"), "n": 1, "more": ["sk-12345"]}, ("sk-12345",))
    assert found == {"line": ("a", f"--api-key={HIDDEN}"), "n": 1, "more": [HIDDEN]}


def test_neither_the_manifest_nor_the_plan_keeps_them(tmp_path: Path) -> None:
    candidate = Candidate(engine="fake", name="fake", args=ARGS, env=ENV)
    kept = str(Contender(candidate, ENGINE, {}, ModelFacts()).facts())
    plan = stored(replace(read_plan(small_file(tmp_path)), candidates=(candidate,)))
    for text in (kept, str(plan)):
        assert "sk-12345" not in text and "hunter22" not in text and "</s>" in text and "fp8" in text
    assert stored(plan) == plan  # resuming compares the two
