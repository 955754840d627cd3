"""`constraints.txt` names all that the project and its extras need, and what is installed is of these versions.

Of an extra that is not installed here only what it names itself can be checked, not what that needs in turn.
"""

import re
import sysconfig
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.paths import ROOT

HERE = [sysconfig.get_paths()["purelib"]]
"""Not what is on sys.path: some packages put others there that they bring along."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert not [line for line in wanted if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in wanted)}


def requirements_of(name: str) -> list[str]:
    if name == PROJECT["name"]:  # not what was installed: pyproject.toml may have changed since
        optional = PROJECT["optional-dependencies"].items()
        return PROJECT["dependencies"] + [f'{line}; extra == "{extra}"' for extra, lines in optional for line in lines]
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def needed() -> set[str]:
    """What the project needs here, with all that it needs in turn, by canonical names."""
    extras = PROJECT["optional-dependencies"]
    waiting = [(PROJECT["name"], extra) for extra in ["", *extras]]
    seen = set(waiting)
    for name, extra in waiting:
        for line in requirements_of(name):
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            more = {(canonicalize_name(requirement.name), of) for of in ["", *requirement.extras]} - seen
            seen |= more
            waiting += sorted(more)
    return {name for name, _ in seen} - {PROJECT["name"]}


def test_every_dependency_is_pinned() -> None:
    wanted, found = pins(), needed()
    assert len(found) > len(PROJECT["dependencies"])
    assert sorted(found - set(wanted)) == []
    installed = {
        canonicalize_name(each.metadata["Name"]): Version(each.version) for each in metadata.distributions(path=HERE)
    }
    other = {name: str(installed[name]) for name in found & set(installed) if installed[name].public != wanted[name]}
    assert other == {}
