"""Covers `--help` of every job: it says what the job does, and nothing heavy is loaded to print it."""

import json
import pkgutil
import subprocess
import sys

import jobs
from tests.support.paths import ROOT

JOBS = sorted({module.name for module in pkgutil.iter_modules(jobs.__path__)} - {"console", "steps"})
HEAVY = ("torch", "ray", "mlflow", "matplotlib.pyplot", "pandas")
HELP = """
import contextlib, importlib, io, json, sys
names, heavy = map(json.loads, sys.argv[1:])
sys.argv = ["job", "--help"]
shown = {}
for name in names:
    module = importlib.import_module("jobs.quickstart.__main__" if name == "quickstart" else f"jobs.{name}")
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        module.main()
    shown[name] = [text.getvalue(), [name for name in heavy if name in sys.modules]]
print(json.dumps(shown))
"""


def test_help_says_what_each_job_does_and_loads_nothing_heavy() -> None:
    command = [sys.executable, "-c", HELP, json.dumps(JOBS), json.dumps(HEAVY)]
    shown = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert {"evaluate", "quickstart", "weights"} <= shown.keys()
    for job, (text, loaded) in shown.items():
        usage, _, summary, *options = text.splitlines()
        assert usage.startswith(f"usage: python -m jobs.{job} ")
        assert summary.strip()
        assert any("--config" in line for line in options)
        assert not loaded, job
