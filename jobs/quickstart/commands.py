"""Jobs as commands: printed, run as processes of their own, and where to look afterwards."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.console import cli, signals


def run_command(job: str, options: Sequence[str]) -> int:
    """Print and run `python -m jobs.JOB OPTIONS`; returns its exit code."""
    cli.stdout.print(f"\n$ {shlex.join([python_path(), '-m', f'jobs.{job}', *options])}", markup=False, soft_wrap=True)
    with subprocess.Popen([sys.executable, "-m", f"jobs.{job}", *options]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            if signals.by_sigterm():
                process.terminate()  # SIGTERM reached this process only
                raise
            return process.wait()  # Ctrl-C reached the job too, which stops by itself and prints how to continue


def python_path() -> str:
    """This interpreter, as a user would type it in the working directory."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def mlflow_command(store: str) -> str:
    """The command that shows the runs of `store` in a browser."""
    database = f"sqlite:///{Path(store, 'mlflow.db').absolute()}"
    return f"{python_path()} -m mlflow ui --backend-store-uri {shlex.quote(database)}"


def print_places(**places: str) -> None:
    """Print where to find what: one name and one path or command per line."""
    for name, place in places.items():
        cli.stdout.print(f"{name:<20} {place}", markup=False, soft_wrap=True)
