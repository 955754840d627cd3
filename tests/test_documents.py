"""README and docs/ against the code: paths, links, commands and examples that they show exist and work.

A command is parsed by its job's own parser and not run; the guides name data and buckets that are nowhere.
"""

import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from jobs.console import cli
from jobs.train_student import TrainStudentConfig
from pipelines.data import evaluation_sets
from zoo.cards.reader import read_cards

ROOT = Path(__file__).parents[1]
PACKAGES = ("jobs", "pipelines", "zoo")
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}
MOST_LINES = 180
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(text: str, language: str) -> list[str]:
    return [content for found, content in _FENCE.findall(text) if found == language]


def spans(text: str) -> list[str]:
    """What stands in backticks, outside of fenced blocks."""
    return re.findall(r"`([^`]+)`", _FENCE.sub("", text))


def commands() -> list[tuple[str, str]]:
    """Document and command of every `python -m jobs.NAME` in a fenced block."""
    shown = {name: "\n".join(fenced(text, "")).replace("\\\n", " ") for name, text in TEXTS.items()}
    pattern = re.compile(r"(?:^|-- +)(python -m jobs\..*)", re.MULTILINE)
    return [(document, command) for document, lines in shown.items() for command in pattern.findall(lines)]


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_map_has_a_line_for_every_folder_of_code_and_none_for_others() -> None:
    lines = TEXTS["README.md"].partition("## Folders")[2].partition("```\n")[2].partition("```")[0].splitlines()
    named = {line.split()[0] for line in lines}
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    assert {str(file.parent.relative_to(ROOT)) for file in files} <= named
    assert [name for name in sorted(named) if not (ROOT / name).is_dir()] == []


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= MOST_LINES


TESTS = {path.stem for path in (ROOT / "tests").rglob("test_*.py")} | {
    name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
}
"""Modules and functions."""


@pytest.mark.parametrize("document", TEXTS)
def test_links_lead_to_files_and_headings(document: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", _FENCE.sub("", TEXTS[document])):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        file = (ROOT / document).parent / place if place else ROOT / document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("document", TEXTS)
def test_paths_jobs_and_tests_that_are_named_exist(document: str) -> None:
    for span in spans(TEXTS[document]):
        if re.fullmatch(r"(?:jobs|pipelines|zoo|tests|docs|examples)/[a-z0-9_./-]+", span):
            assert (ROOT / span).exists(), span
        if re.fullmatch(r"test_\w+", span):
            assert span in TESTS, span
        for module in re.findall(r"\bjobs\.[a-z_]+", span):
            assert importlib.util.find_spec(module), span


def test_paths_that_the_notice_names_exist() -> None:
    text = " ".join((ROOT / "NOTICE").read_text().split())
    named = re.findall(r"\b(?:pipelines|zoo|tests)/[\w./-]*\w", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", TEXTS)
def test_modules_and_make_targets_that_are_named_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = [*spans(TEXTS[document]), *fenced(TEXTS[document], "")]
    assert set(re.findall(r"^make (\w+)", "\n".join(shown), re.MULTILINE)) <= targets
    for module in re.findall(r"python -m ([a-z_.]*[a-z_])", TEXTS[document]):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize(("document", "command"), commands())
def test_commands_parse(document: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, name, *options = shlex.split(command, comments=True)
    job = importlib.import_module(name)
    job = job if hasattr(job, "main") else importlib.import_module(f"{name}.__main__")
    parsed = []
    monkeypatch.setattr(cli, "run_job", lambda config, run, argv: parsed.append(cli.parse(config, argv)))
    job.main(options)
    assert parsed, document


def test_an_unknown_option_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        test_commands_parse("README.md", "python -m jobs.evaluate --model all  # no such option", monkeypatch)


def test_the_card_that_is_shown_is_one() -> None:
    (document,) = fenced(TEXTS["docs/zoo.md"], "yaml")
    (card,) = read_cards(document, "zoo.md")
    assert (card.name, card.architecture, card.claims[0].value) == ("mine", "resnest50d", 80.1)


def test_the_evaluation_sets_that_are_shown_are_some(tmp_path: Path) -> None:
    (document,) = fenced(TEXTS["docs/claims.md"], "yaml")
    (tmp_path / "mine.yaml").write_text(document)
    known = evaluation_sets.known_sets([str(tmp_path / "mine.yaml")])
    assert known["street"].subset == (407, 436, 468)
    assert known["street-multi"].of == "street"


def test_the_recipe_that_is_shown_is_one(tmp_path: Path) -> None:
    (document,) = fenced(TEXTS["docs/students.md"], "yaml")
    (tmp_path / "recipe.yaml").write_text(document)
    data = ["--model", "cifar_resnet8", "--pretrain", "pool", "--val", "val"]
    config = cli.parse(TrainStudentConfig, ["--config", str(tmp_path / "recipe.yaml"), *data])
    assert (config.pre.batch, config.pre.mixup, config.fine.epochs) == (256, 0.2, 10.0)


def test_the_python_that_is_shown_compiles_and_that_of_the_zoo_runs() -> None:
    for document, text in TEXTS.items():
        for block in fenced(text, "python"):
            code = compile(block, document, "exec")
            if document == "docs/zoo.md":
                exec(code, {})  # what a reader will paste


def test_the_steps_of_ray_data_are_called_as_the_guide_has_them() -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "pipelines").rglob("*.py"))
    named = set(re.findall(r"MapBatches\((\w+)\)", TEXTS["docs/operations.md"]))
    assert named
    assert [name for name in sorted(named) if not re.search(rf"^(?:class|def) {name}\b", code, re.MULTILINE)] == []
