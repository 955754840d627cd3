"""Covers jobs.steps.cluster and what is shipped: a large working folder is said, and ignore files keep it small."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

from jobs.steps.cluster import large_folder_warning
from pipelines.cluster import connection
from tests.support.paths import ROOT


def sparse(path: Path, megabytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(megabytes * 1_000_000)


def test_a_working_folder_above_fifty_megabytes_is_told_what_is_large(tmp_path) -> None:
    sparse(tmp_path / "code.py", 1)
    sparse(tmp_path / "photos" / "a" / "b.jpg", 40)
    assert large_folder_warning(tmp_path) is None
    sparse(tmp_path / "photos" / "c.jpg", 50)
    sparse(tmp_path / "val.bin", 2000)
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    told = large_folder_warning(tmp_path)
    assert told
    assert "has 2,091 MB (val.bin 2,000 MB, photos 90 MB, code.py 1 MB)" in told
    assert ".rayignore" in told


@pytest.mark.parametrize(
    ("config", "shipped"),
    [
        (None, False),
        ({}, False),
        ({"runtime_env": {}}, False),
        ({"runtime_env": {"env_vars": {}}}, False),
        ({"runtime_env": {"working_dir": "gcs://_ray_pkg_0.zip"}}, True),
    ],
)
def test_only_a_job_that_was_submitted_with_a_folder_has_a_shipped_one(monkeypatch, tmp_path, config, shipped) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(RAY_JOB_CONFIG_JSON_ENV_VAR, raising=False)
    if config is not None:
        monkeypatch.setenv(RAY_JOB_CONFIG_JSON_ENV_VAR, json.dumps(config))
    assert connection.shipped_folder() == (tmp_path if shipped else None)


def named_in_documents() -> set[str]:
    """Relative paths of data that commands of the README and of guides read or write."""
    options = {"--images", "--data", "--output", "--store", "--labels", "--devkit", "--keys"}
    found: set[str] = set()
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for command in re.findall(r"python -m jobs\..*", document.read_text().replace("\\\n", " ")):
            words = shlex.split(command.partition("`")[0], comments=True)
            found |= {value for option, value in pairwise(words) if option in options}
    return {path for path in found if "://" not in path and not path.startswith("/") and path.islower() | ("." in path)}


def test_what_the_documents_commands_read_and_write_is_neither_committed_nor_shipped() -> None:
    excluded = get_excludes_from_ignore_files(ROOT, include_gitignore=True)
    tracked = get_excludes_from_ignore_files(ROOT, include_gitignore=True)[:1]
    named = named_in_documents()
    assert {"output", "shards/val", "photos", "ILSVRC2012_img_val.tar"} <= named
    for path in sorted(named):
        file = ROOT / path if "." in path else ROOT / path / "file"
        assert any(matches(file) for matches in tracked), path
    for path in ("mlflow.db", "mlruns/0/meta.yaml", "tests/conftest.py", "photos.zip", ".git/config"):
        assert any(matches(ROOT / path) for matches in excluded), path
    for path in ("jobs/evaluate.py", "pipelines/walk/prices.yaml", "zoo/imagenet1k.tsv", "pyproject.toml"):
        assert not any(matches(ROOT / path) for matches in excluded), path
