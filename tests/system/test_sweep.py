"""A sweep of the whole zoo in one pass: a picture is decoded once, and each model's cells are those it gives alone."""

from pathlib import Path

import pytest

import zoo
from jobs import evaluate
from tests.support import faulty_runs, random_models

ALL = sorted({*zoo.names("*"), "efficientnet_lite0"} - set(zoo.names("sknet*")))
ONE_OF_EACH = ["efficientnet_lite0", "res2next50", "resnest50d", "selecsls60b", "ssl_resnext50_32x4d"]
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
    return random_models.put_cards(
        tmp_path_factory.mktemp("weights"), [name for name in ALL if name != faulty_runs.MODEL]
    )


def called(name: str) -> str:
    """The name of the one whose weights are there."""
    return name if name == faulty_runs.MODEL else random_models.PREFIX + name


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("alone", [ONE_OF_EACH, pytest.param(ALL, marks=pytest.mark.thorough)], ids=["some", "all"])
def test_a_sweep_decodes_each_picture_once_and_gives_what_each_model_gives_alone(
    cards, tmp_path, jpegs, alone: list[str]
) -> None:
    data, together, apart = (
        faulty_runs.put_shards(f"{tmp_path}/val", jpegs, SHARDS),
        f"{tmp_path}/all",
        f"{tmp_path}/apart",
    )
    decoded = tmp_path / "decoded"
    site = tmp_path / "site" / "sitecustomize.py"
    site.parent.mkdir()
    site.write_text(COUNTER.format(log=str(decoded)))
    flags = ["--cards", str(cards)]
    env = {"PYTHONPATH": str(site.parent), "RAY_ADDRESS": "local"}
    code, said = faulty_runs.start(data, together, *flags, env=env, models=",".join(map(called, ALL))).wait(600)
    assert code == 0, said
    assert decoded.stat().st_size == SHARDS * faulty_runs.IMAGES
    for name in alone:
        job = [
            "--models",
            called(name),
            "--data",
            data,
            "--store",
            apart,
            "--batch-size",
            str(faulty_runs.IMAGES),
            *flags,
        ]
        assert evaluate.main([*job, "--tracking-uri", "none"]) == 0
    found = faulty_runs.committed(together)
    assert len(found) == SHARDS * len(ALL)
    assert faulty_runs.committed(apart).items() <= found.items()
