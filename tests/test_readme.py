"""The README is the map: every file of ours is in its tree, and nothing that is not there."""

import re

from tests.support.paths import ROOT
from zoo.cards.reader import read_cards

PACKAGES = ("jobs", "pipelines", "zoo")


def test_every_module_is_in_the_tree_and_every_line_of_the_tree_is_a_module() -> None:
    tree = (ROOT / "README.md").read_text().partition("## Files")[2].partition("```\n")[2].partition("```")[0]
    named: dict[str, set[str]] = {}
    package = ""
    for line in tree.splitlines():
        names = re.findall(r"[\w.]+\.(?:py|csv|tsv)", line[:31]) if line.startswith("  ") else []
        package = package if line.startswith("  ") else line.partition("/")[0]
        named.setdefault(package, set()).update(names)
    for package in PACKAGES:
        files = {path.name for path in (ROOT / package).iterdir() if path.suffix in {".py", ".csv", ".tsv"}}
        assert named[package] == {name for name in files if not name.startswith("__")}


def test_the_card_that_it_shows_is_one() -> None:
    document = (ROOT / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    (card,) = read_cards(document, "README.md")
    assert (card.name, card.architecture, card.claims[0].value) == ("mine", "resnest50d", 80.1)
