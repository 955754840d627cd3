"""Hooks, `make lint` and hosted CI are the same checks: no two of them can differ."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_hooks_call_the_tools_of_make_lint() -> None:
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"] for hook in repository["hooks"]]
    tools = re.compile(r"(?:\$\(BIN\)|\.venv/bin)/(ruff \w+|[\w-]+)")
    assert tools.findall("\n".join(entries)) == tools.findall(lint)
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_hosted_ci_runs_the_projects_own_script() -> None:
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_the_licence_is_there_in_full() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
