"""From a command line to a job's config, and from what it does to an exit code.

Options are the fields of a job's config dataclass, their docstrings its `--help`. The command line overrides a
`--config` file, in which an unknown key is an error.
"""

import argparse
import dataclasses
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_origin, get_type_hints

import tyro
import yaml
from rich.console import Console

from jobs.console import signals
from pipelines import storage

DONE = 0


BAD_ARGUMENTS = 2


UNFINISHED = 3


MISMATCH = 4


INTERRUPTED = 130


TERMINATED = 143


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
        What `run` returns, 2 with one line on standard error for what the user gave and we cannot use, 3 where a store
        is away, 130 after Ctrl-C, or 143 after SIGTERM.
    """
    try:
        with signals.on_signals():
            return run(parse(config_type, argv))
    except storage.UnavailableError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\nthe same command continues where it was\n")
        return UNFINISHED
    except (ValueError, OSError) as error:
        if isinstance(error, ValueError) and not _is_ours(error):
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return BAD_ARGUMENTS
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command continues where it was\n")
        return TERMINATED if signals.by_sigterm() else INTERRUPTED


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
    from_file = _flags(config_type, path) if path else []
    _refuse_repeats(config_type, arguments)
    # What has no name comes first, or a list among the file's options would take it for one of its own.
    first = 1 if arguments and not arguments[0].startswith("-") else 0
    module = config_type.__module__ if config_type.__module__ != "__main__" else _main_module()
    module = module.removesuffix(".__main__")  # a package is run by its own name
    return tyro.cli(config_type, args=[*arguments[:first], *from_file, *arguments[first:]], prog=f"python -m {module}")


def _main_module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else "__main__"


def _flags(config_type: Any, path: str) -> list[str]:
    """The YAML file's options in command-line form, so that one parser checks both."""
    try:
        options = yaml.safe_load(storage.read(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path}: expected `option: value` lines, found {type(options).__name__}")
    return _flags_of(config_type, options, path, "")


def _flags_of(config_type: Any, options: dict[Any, Any], path: str, group: str) -> list[str]:
    """The options of `config_type`, or of its group that is called `group`; a group is a map in the file."""
    known = [field.name for field in dataclasses.fields(config_type)]
    positional, lists, hints = _positional(config_type), _lists(config_type), get_type_hints(config_type)
    flags: list[str] = []
    for key, value in options.items():
        name = str(key).replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{path}: unknown option {group}{key!r}{hint} (known: {', '.join(known)})")
        if name in positional:
            raise ValueError(f"{path}: {name} is given on the command line, not in a file")
        if isinstance(value, list) and name.replace("_", "-") not in lists:
            raise ValueError(f"{path}: {group}{key} takes one value, found a list of {len(value)}")
        if (is_group := dataclasses.is_dataclass(hints[name])) != isinstance(value, dict):
            raise ValueError(f"{path}: {group}{key} takes {'a map of options' if is_group else 'no map'}")
        if isinstance(value, dict):
            flags += _flags_of(hints[name], value, path, f"{name}.")
        else:
            flags += _flag(group + name.replace("_", "-"), value)
    return flags


def _refuse_repeats(config_type: Any, arguments: Sequence[str]) -> None:
    """Of a list that is given twice, the parser would keep the second and drop the first without a word."""
    for name in _lists(config_type):
        if arguments.count(f"--{name}") > 1:
            raise ValueError(f"--{name} is given twice; give all its values after one")


def _lists(config_type: Any) -> list[str]:
    """The options that take several values, as they are written on the command line."""
    return [name.replace("_", "-") for name, hint in get_type_hints(config_type).items() if get_origin(hint) is tuple]


def _positional(config_type: Any) -> list[str]:
    """The options that have no name on the command line."""
    hints = get_type_hints(config_type, include_extras=True)
    return [name for name, hint in hints.items() if tyro.conf.Positional in getattr(hint, "__metadata__", ())]


def _flag(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, list) else [value]
    return [f"--{name}", *(str(item) for item in values)]


def set_environment_defaults(**defaults: str) -> None:
    """Set environment variables that the user has not set; jobs are the only place that touches the environment."""
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
