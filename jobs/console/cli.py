"""The command line of a job: options into its config, outcomes into exit codes.

Options are the fields of a job's config dataclass, and the fields' docstrings are its `--help`. A `--config` file sets
options too; the command line overrides it, and an unknown key in it is an error.
"""

import argparse
import dataclasses
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
import yaml
from rich.console import Console

from jobs.console import signals
from pipelines import storage

DONE = 0
"""Everything that was asked for is there."""
BAD_ARGUMENTS = 2
"""Options or data cannot be used; one line on standard error says which and why."""
UNFINISHED = 3
"""The job ended with something missing; the same command continues."""
MISMATCH = 4
"""A published number was not reproduced."""
INTERRUPTED = 130
"""Stopped by Ctrl-C: 128 + SIGINT."""
TERMINATED = 143
"""Stopped by SIGTERM: 128 + SIGTERM."""

stdout = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
"""For results; progress goes to standard error. A pipe has no width, and the default of 80 columns would fold names."""
ConfigT = TypeVar("ConfigT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The option that every job has."""

    config: str | None = None
    """YAML file that sets these options (`batch_size: 64`); the command line overrides it."""


def run_job(config_type: type[ConfigT], run: Callable[[ConfigT], int], argv: Sequence[str] | None = None) -> int:
    """Parse `argv` into `config_type` and call `run` with it.

    Returns:
        What `run` returns; 2, with one line on standard error, if options or data cannot be used; 3 if a store is
        unavailable; 130 after Ctrl-C; 143 after SIGTERM.
    """
    try:
        with signals.on_signals():
            return run(parse(config_type, argv))
    except storage.UnavailableError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\nthe same command continues from here\n")
        return UNFINISHED
    except (ValueError, OSError) as error:
        if isinstance(error, ValueError) and not _is_deliberate(error):
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return BAD_ARGUMENTS
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command continues from here\n")
        return TERMINATED if signals.by_sigterm() else INTERRUPTED


def _is_deliberate(error: BaseException) -> bool:
    """Whether the project's own code raised `error`; a ValueError from a library is a bug and keeps its traceback."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return module.partition(".")[0] in {"__main__", "jobs", "pipelines", "zoo"}


def parse(config_type: type[ConfigT], argv: Sequence[str] | None = None) -> ConfigT:
    """Build `config_type` from its defaults, the `--config` file and the command line; later sources win.

    Raises:
        ValueError: if the file has an unknown key.
        SystemExit: with 2 if an option is unknown or of the wrong type, with 0 after `--help`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(arguments)[0].config
    from_file = _flags(config_type, path) if path else []
    _require_each_list_once(config_type, arguments)
    _require_single_values(config_type, arguments)
    from_file = _without_overridden(config_type, from_file, arguments)
    _require_single_values(config_type, from_file)
    # A positional argument goes first; after a list option of the file it would be parsed as one of the list's values.
    first = 1 if arguments and not arguments[0].startswith("-") else 0
    module = config_type.__module__ if config_type.__module__ != "__main__" else _main_module()
    module = module.removesuffix(".__main__")  # `python -m jobs.quickstart` runs jobs/quickstart/__main__.py
    return tyro.cli(config_type, args=[*arguments[:first], *from_file, *arguments[first:]], prog=f"python -m {module}")


def _main_module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else "__main__"


def _flags(config_type: Any, path: str) -> list[str]:
    """The options of the YAML file `path` as command-line arguments, so that one parser checks both."""
    try:
        options = yaml.safe_load(storage.read(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path}: expected `option: value` lines, found {type(options).__name__}")
    return _flags_of(config_type, options, path, "")


def _flags_of(config_type: Any, options: dict[Any, Any], path: str, group: str) -> list[str]:
    """Arguments for `options` of `config_type`; `group` is the prefix (`pre.`) of a nested map, or empty."""
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
            raise ValueError(f"{path}: {name} is set on the command line, not in a file")
        if isinstance(value, list) and name.replace("_", "-") not in lists:
            raise ValueError(f"{path}: {group}{key} takes one value, found a list of {len(value)}")
        if (is_group := dataclasses.is_dataclass(hints[name])) != isinstance(value, dict):
            raise ValueError(f"{path}: {group}{key} takes {'a map of options' if is_group else 'a value, not a map'}")
        if isinstance(value, dict):
            flags += _flags_of(hints[name], value, path, f"{name}.")
        else:
            flags += _flag(group + name.replace("_", "-"), value)
    return flags


def _require_each_list_once(config_type: Any, arguments: Sequence[str]) -> None:
    """Raise if a list option occurs twice; the parser would silently keep only the second list."""
    for name in _lists(config_type):
        if arguments.count(f"--{name}") > 1:
            raise ValueError(f"--{name} is given more than once; put all its values after a single --{name}")


def _require_single_values(config_type: Any, arguments: Sequence[str]) -> None:
    """Raise if an option of one value (`tuple[X]`) has several; the parser would not name the option."""
    for option in _single_values(config_type):
        if len(values := _values_of(option, arguments)) > 1:
            raise ValueError(f"{option} {' '.join(values)}: this job takes one value")


def _without_overridden(config_type: Any, from_file: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """`from_file` without options of one value that `arguments` set: a file for several jobs may list more values."""
    kept = list(from_file)
    for option in _single_values(config_type):
        if option in kept and any(argument.partition("=")[0] == option for argument in arguments):
            at = kept.index(option)
            del kept[at : at + 1 + len(_values_of(option, kept))]
    return kept


def _single_values(config_type: Any) -> list[str]:
    """The options of one value (`tuple[X]`), as written on the command line."""
    hints = get_type_hints(config_type).items()
    tuples = [(name, get_args(hint)) for name, hint in hints if get_origin(hint) is tuple]
    return [f"--{name.replace('_', '-')}" for name, values in tuples if len(values) == 1]


def _values_of(option: str, arguments: Sequence[str]) -> list[str]:
    """The values after the first `option` in `arguments`; none if it is not there."""
    after = arguments[arguments.index(option) + 1 :] if option in arguments else ()
    return list(takewhile(lambda value: not value.startswith("-"), after))


def _lists(config_type: Any) -> list[str]:
    """Names of the options that take a list of values, as written on the command line."""
    return [name.replace("_", "-") for name, hint in get_type_hints(config_type).items() if get_origin(hint) is tuple]


def _positional(config_type: Any) -> list[str]:
    """Names of the positional arguments."""
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
    """Set environment variables that the user has not set. Only jobs change the environment."""
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
