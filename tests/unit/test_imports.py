"""Covers imports: no package or module loads torch, Ray, MLflow or Matplotlib but those that are listed here.

Loading one of them takes from half a second to several; a driver that plans, prints help or reports needs none.
"""

import json
import subprocess
import sys

from tests.support.paths import ROOT

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
        *("pipelines.evaluation.evaluate", "pipelines.evaluation.reliability"),
        *("pipelines.figures", "pipelines.selection.pictures", "pipelines.training.curve"),
    },
}
"""The modules that load each; a package itself (its `__init__`) loads none."""
PROGRAM = """
import importlib, json, sys
names, heavy = map(json.loads, sys.argv[1:])
for name in names:
    importlib.import_module(name)
    print(json.dumps([name, [each for each in heavy if each in sys.modules]]))
"""


def test_only_the_modules_listed_load_what_is_heavy() -> None:
    files = [file for package in ("jobs", "pipelines", "zoo") for file in sorted((ROOT / package).rglob("*.py"))]
    names = {str(file.relative_to(ROOT).with_suffix("")).replace("/", ".") for file in files}
    listed = set().union(*LOADED.values())
    assert listed <= names
    light = sorted(name.removesuffix(".__init__") for name in names - listed - {"zoo.__main__"})
    command = [sys.executable, "-c", PROGRAM, json.dumps(light), json.dumps(tuple(LOADED))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    loaded = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(loaded) == len(light), done.stderr
    assert next((found for found in loaded if found[1]), None) is None
