"""The documents for contributors name what is there: packages, paths, modules, functions, tests; one word, one row."""

import ast
import re
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOTS = ("jobs", "pipelines", "zoo")
PACKAGES = sorted(path.parent for root in ROOTS for path in (ROOT / root).glob("*/__init__.py"))
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
DOCUMENTS = [
    ARCHITECTURE,
    *(ROOT / name for name in ("docs/style.md", "docs/decisions/README.md", "CONTRIBUTING.md", "AGENTS.md")),
    *DECISIONS,
]
_TOKEN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?:\.?[\w-]+/)+[\w.*-]*|[\w.-]+\.(?:py|md|toml|yaml|yml|txt)|Makefile|NOTICE|LICENSE")
_DOTTED = re.compile(rf"(?:{'|'.join(ROOTS)})(?:\.\w+)+")
_CLASS = re.compile(r"[A-Z][a-z]\w*[a-z]\w*")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_PLACEHOLDER = re.compile(r"[A-Z]{4,}[\w-]*/")
"""In paths of a store: `cells/DATASET/...`."""
_FOREIGN = {"Any", "Claims", "ValueError"}
"""Written like classes of ours: Python's own, and keys of documents."""


def text_of(document: Path) -> str:
    """Without blocks of code."""
    return re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)


def named_in(document: Path) -> list[str]:
    return _TOKEN.findall(text_of(document))


@cache
def names_of(module: Path) -> frozenset[str]:
    """Top-level names, and those in classes as `Class.name`."""
    found: set[str] = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        found |= _bound(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in _bound(inner)}
    return frozenset(found)


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


@cache
def classes() -> frozenset[str]:
    modules = (path for root in ROOTS for path in (ROOT / root).rglob("*.py"))
    return frozenset(name for module in modules for name in names_of(module) if "." not in name and name[0].isupper())


@cache
def known_tests() -> frozenset[str]:
    return frozenset(name for path in (ROOT / "tests").rglob("test_*.py") for name in names_of(path))


def is_dotted_name(dotted: str) -> bool:
    """Whether `package.module.name` is there, looked up in the source: importing may load torch."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        place, rest = ROOT.joinpath(*parts[:end]), ".".join(parts[end:])
        if place.with_suffix(".py").is_file():
            return not rest or rest in names_of(place.with_suffix(".py"))
        if place.is_dir():
            return not rest
    return False


def is_wrong(token: str, document: Path) -> bool:
    """Whether a token that looks like a name of ours names nothing."""
    if token.startswith("test_"):
        return token not in known_tests()
    if _DOTTED.fullmatch(token):
        return not is_dotted_name(token)
    if _PATH.fullmatch(token) and not _PLACEHOLDER.search(token):
        places = (ROOT, document.parent, ROOT / "tests")
        return not any(next(place.glob(token.rstrip("/")), None) for place in places)
    if _CLASS.fullmatch(token):
        return token not in classes() | _FOREIGN
    return False


def glossary() -> list[list[str]]:
    """The words of each group, as they stand."""
    groups = text_of(ARCHITECTURE).partition("## Glossary")[2].split("\n### ")[1:]
    return [re.findall(r"^\| (.+?) \| .+ \|$", group, flags=re.MULTILINE)[1:] for group in groups]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_is_there(document: Path) -> None:
    assert [token for token in named_in(document) if is_wrong(token, document)] == []
    links = _LINK.findall(text_of(document))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_a_name_that_is_not_there_is_noticed() -> None:
    for token in ("pipelines/nowhere.py", "pipelines.walk.nothing", "pipelines.cells.cell.put_cell", "PlanOfCells"):
        assert is_wrong(token, ARCHITECTURE)
    assert is_wrong("test_that_is_none", ARCHITECTURE)


def test_every_package_is_in_the_architecture() -> None:
    assert {".".join(path.relative_to(ROOT).parts) for path in PACKAGES} <= set(named_in(ARCHITECTURE))


def test_the_picture_has_the_layers_of_the_import_contracts() -> None:
    picture = ARCHITECTURE.read_text(encoding="utf-8").partition("```")[2].partition("```")[0]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {contract["containers"][0]: contract["layers"] for contract in contracts if "containers" in contract}
    at = 0
    for root in ROOTS:
        for name in re.findall(r"\w+", " | ".join(layers[root])):
            found = re.compile(rf"\b{name}\b").search(picture, at)
            assert found, f"{root}: {name} is not in the picture, or in another row"
            at = found.end()


def test_each_word_of_the_glossary_has_one_row_and_groups_are_sorted() -> None:
    words = Counter(word for group in glossary() for word in group)
    assert len(words) > 40
    assert [word for word, rows in words.items() if rows > 1] == []
    assert [group for group in glossary() if group != sorted(group)] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: ".".join(path.relative_to(ROOT).parts))
def test_a_package_says_what_it_owns_takes_gives_and_never_does(package: Path) -> None:
    said = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert re.findall(r"^(\w+)  ", said, flags=re.MULTILINE) == ["Owns", "In", "Out", "Never"]


def test_decisions_are_numbered_in_turn_short_and_in_the_index() -> None:
    assert [path.name[:3] for path in DECISIONS] == [f"{number:03d}" for number in range(1, len(DECISIONS) + 1)]
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    for path in DECISIONS:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert f"({path.name})" in index
        assert 15 <= len(lines) <= 40, f"{path.name} has {len(lines)} lines"
        headings = [line for line in lines if line.startswith("## ")]
        assert headings == ["## Context", "## Decision", "## Consequences", "## How it was checked"], path.name
