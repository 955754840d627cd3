"""Covers imports: each package and module loads torch, Ray, MLflow and Matplotlib only where it is listed here.

Loading one of these takes from half a second to several; a driver that plans, prints help or reports needs none of them.
"""

import json
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

HEAVY = ("torch", "ray", "mlflow", "matplotlib")
LOADED = {
    "torch": {
        *(
            "pipelines.models.engine",
            "pipelines.models.folding",
            "pipelines.models.measure",
            "pipelines.models.ranking",
        ),
        *("pipelines.models.tune", "pipelines.pixels.fast_decode", "pipelines.walk.scorer"),
        *("pipelines.training.agreement", "pipelines.training.checkpoint", "pipelines.training.driver"),
        *("pipelines.training.history", "pipelines.training.learner", "pipelines.training.publication"),
        *("pipelines.training.validation", "pipelines.training.worker"),
        *("zoo.architectures.cifar_resnet", "zoo.architectures.dropblock", "zoo.architectures.efficientnet_lite"),
        *("zoo.architectures.res2next", "zoo.architectures.resnest", "zoo.architectures.resnet"),
        *("zoo.architectures.selecsls", "zoo.architectures.sknet", "zoo.architectures.ssl_resnext"),
        *("zoo.counts", "zoo.weights.caffe"),
    },
    "ray": {
        *("pipelines.cluster.connection", "pipelines.cluster.ray_data", "pipelines.cluster.shares"),
        *("pipelines.cluster.tasks", "pipelines.models.tune", "pipelines.packing.collect"),
        *("pipelines.selection.distributed", "pipelines.selection.materialize"),
        *("pipelines.training.agreement", "pipelines.training.coordinator", "pipelines.training.driver"),
        *("pipelines.training.history", "pipelines.training.publication", "pipelines.training.row_counts"),
        *("pipelines.training.sampling.loader", "pipelines.training.validation", "pipelines.training.worker"),
        *("pipelines.walk.dataflow", "pipelines.walk.filling", "pipelines.walk.gauges"),
    },
    "mlflow": {"pipelines.evaluation.evaluate", "pipelines.evaluation.tracking"},
    "matplotlib": {
        *("jobs.quickstart.digits", "pipelines.evaluation.evaluate", "pipelines.evaluation.reliability"),
        *("pipelines.figures", "pipelines.selection.pictures", "pipelines.training.curve"),
    },
}
"""The modules that load each; a package itself (its `__init__`) loads none."""
PROGRAM = """
import importlib, json, os, sys
names, heavy = map(json.loads, sys.argv[1:])
for name in names:
    if not (child := os.fork()):
        importlib.import_module(name)
        print(json.dumps([name, [each for each in heavy if each in sys.modules]]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("package", ["jobs", "pipelines", "zoo"])
def test_only_the_modules_listed_load_what_is_heavy(package: str) -> None:
    files = [file for file in sorted((ROOT / package).rglob("*.py")) if file.name != "__main__.py"]
    names = [str(file.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__") for file in files]
    command = [sys.executable, "-c", PROGRAM, json.dumps(names), json.dumps(HEAVY)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = dict(json.loads(line) for line in done.stdout.splitlines())
    assert loaded.keys() == set(names), done.stderr
    found = {each: {name for name, some in loaded.items() if each in some} for each in HEAVY}
    assert found == {each: {name for name in LOADED[each] if name.partition(".")[0] == package} for each in HEAVY}
