"""A sweep of the whole zoo in one pass: a picture is decoded once, and each model's cells are those it gives alone."""

from pathlib import Path

import pytest

import zoo
from jobs import evaluate
from tests import random_models
from tests.jobs import chaos

ALL = sorted({*zoo.names("*"), "efficientnet_lite0"} - set(zoo.names("sknet*")))
SHARDS = 2
COUNTER = """
import os, PIL.Image
plain = PIL.Image.open
def opened(*args, **options):
    with open({log!r}, "ab") as log:
        log.write(b".")
    return plain(*args, **options)
PIL.Image.open = opened
"""


@pytest.fixture(scope="module")
def cards(tmp_path_factory) -> Path:
    return random_models.put_cards(tmp_path_factory.mktemp("weights"), [name for name in ALL if name != chaos.MODEL])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("local_ray")
def test_a_sweep_decodes_each_picture_once_and_gives_what_each_model_gives_alone(cards, tmp_path, jpegs) -> None:
    data, together, alone = chaos.put_shards(f"{tmp_path}/val", jpegs, SHARDS), f"{tmp_path}/all", f"{tmp_path}/alone"
    decoded = tmp_path / "decoded"
    site = tmp_path / "site" / "sitecustomize.py"
    site.parent.mkdir()
    site.write_text(COUNTER.format(log=str(decoded)))
    models = [name if name == chaos.MODEL else random_models.PREFIX + name for name in ALL]
    flags = ["--cards", str(cards)]
    env = {"PYTHONPATH": str(site.parent), "RAY_ADDRESS": "local"}
    code, said = chaos.start(data, together, *flags, env=env, models=",".join(models)).wait(600)
    assert code == 0, said
    assert decoded.stat().st_size == SHARDS * chaos.IMAGES
    for model in models:
        job = ["--models", model, "--data", data, "--store", alone, "--batch-size", str(chaos.IMAGES), *flags]
        assert evaluate.main([*job, "--tracking-uri", "none"]) == 0
    assert len(chaos.committed(together)) == SHARDS * len(models)
    assert chaos.committed(together) == chaos.committed(alone)
