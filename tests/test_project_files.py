"""The files for contributors that no other test reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT / ".github"
HOOKS = ROOT / ".pre-commit-config.yaml"
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", [HOOKS, *sorted(GITHUB.rglob("*.yml"))], ids=lambda path: path.name)
def test_it_is_yaml(path: Path) -> None:
    assert isinstance(read(path), dict)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_the_site_requires(path: Path) -> None:
    form = read(path)
    assert form["name"] and form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids)) and all(field["attributes"]["label"] for field in form["body"])


def test_a_wrong_number_is_reported_with_its_run_folder() -> None:
    text = (GITHUB / "ISSUE_TEMPLATE" / "engine-shown-wrongly.yml").read_text()
    for name in ("manifest.json", "requests.parquet", "chunks.parquet", "launch.json", "compose.yaml", "engine.log"):
        assert name in text


def test_ci_runs_what_a_change_must_pass_on_every_python() -> None:
    jobs = read(GITHUB / "workflows" / "ci.yml")["jobs"]
    runs = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert runs == {"check": ["make check"], "all": [".ci/run"]}
    assert jobs["check"]["strategy"]["matrix"]["python"][0] == "3.11"


def test_hooks_are_the_projects_own_tools() -> None:
    for repo in read(HOOKS)["repos"]:
        assert repo["repo"] == "local"
        assert all(hook["entry"].startswith(".venv/bin/") for hook in repo["hooks"])


def test_every_target_that_contributors_are_told_of_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = set(re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    assert told and told <= targets
