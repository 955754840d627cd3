"""From a command line to a job's config and back to an exit code.

Owns the `--config FILE.yaml` rule (the command line overrides it, unknown keys are errors) and the exit codes 0 and
2. Refuses to know any job's options: they are the fields of its config dataclass, their docstrings its `--help`.
"""

import argparse
import dataclasses
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_type_hints

import tyro
import yaml
from rich.console import Console

import zoo
from pipelines import storage
from zoo.card_reader import read_cards

DONE = 0
BAD_ARGUMENTS = 2
INTERRUPTED = 130
stdout = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
"""For results; what is said on the way goes to standard error. A pipe has no width, and 80 would fold names."""

ConfigT = TypeVar("ConfigT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The option that every job has."""

    config: str | None = None
    """A YAML file of these options (`batch_size: 64`); the command line overrides it, an unknown key is an error."""


def run_job(config_type: type[ConfigT], run: Callable[[ConfigT], int], argv: Sequence[str] | None = None) -> int:
    """Parse `argv` into `config_type` and run the job on it.

    Returns:
        What `run` returns, 2 with one line on standard error for what the user gave and we cannot use, or 130 after
        Ctrl-C.
    """
    try:
        return run(parse(config_type, argv))
    except (ValueError, OSError) as error:
        if isinstance(error, ValueError) and not _is_ours(error):
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return BAD_ARGUMENTS
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command continues where it was\n")
        return INTERRUPTED


def _is_ours(error: BaseException) -> bool:
    """Whether our own code raised it, on purpose: a library's ValueError is a bug of ours and keeps its traceback."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return module.partition(".")[0] in {"__main__", "jobs", "pipelines", "zoo"}


def parse(config_type: type[ConfigT], argv: Sequence[str] | None = None) -> ConfigT:
    """`config_type` from its defaults, the `--config` file and the command line, the last one winning.

    Raises:
        ValueError: if the file has an unknown key.
        SystemExit: with 2 where an option is unknown or of the wrong type (and 0 after `--help`).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(arguments)[0].config
    has_action = bool(arguments) and not arguments[0].startswith("-")
    from_file = _flags(config_type, path, has_action) if path else []
    module = config_type.__module__ if config_type.__module__ != "__main__" else _main_module()
    return tyro.cli(config_type, args=[*from_file, *arguments], prog=f"python -m {module}")


def _main_module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else "__main__"


def _flags(config_type: Any, path: str, has_action: bool) -> list[str]:
    """The YAML file's options in command-line form, so that one parser checks both.

    A job's positional option, of which there is at most one, is left out where the command line begins with its own.
    """
    try:
        options = yaml.safe_load(storage.read(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path}: expected `option: value` lines, found {type(options).__name__}")
    known = [field.name for field in dataclasses.fields(config_type)]
    flags: list[str] = []
    for key, value in options.items():
        name = str(key).replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{path}: unknown option {key!r}{hint} (known: {', '.join(known)})")
        if name != _positional(config_type):
            flags += _flag(name.replace("_", "-"), value)
        elif not has_action:
            flags.insert(0, str(value))
    return flags


def _positional(config_type: Any) -> str | None:
    """The option that has no name on the command line."""
    hints = get_type_hints(config_type, include_extras=True)
    return next(
        (name for name, hint in hints.items() if tyro.conf.Positional in getattr(hint, "__metadata__", ())), None
    )


def _flag(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, list) else [value]
    return [f"--{name}", *(str(item) for item in values)]


def cards(paths: Sequence[str]) -> list[zoo.Card]:
    """The cards in a user's model-index files.

    Raises:
        ValueError: if one is no text, or has no model-index.
        FileNotFoundError: if one is not there.
    """
    found = []
    for path in paths:
        try:
            text = storage.read(path).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a text file") from error
        found += read_cards(text, path)
    return found


def set_environment_defaults(**defaults: str) -> None:
    """Set environment variables that the user has not set; jobs are the only place that touches the environment."""
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
