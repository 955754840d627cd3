"""cluster.yaml: what Ray's own schema says of it; what jobs ask for starts its nodes, and nothing keeps them."""

import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.support import faulty_runs, ray_heads
from tests.support.ray_heads import Head

CONFIG = faulty_runs.ROOT / "cluster.yaml"
CLUSTER = yaml.safe_load(CONFIG.read_text())
TYPES = CLUSTER["available_node_types"]


def test_it_is_what_ray_up_takes() -> None:
    prepared = prepare_config(yaml.safe_load(CONFIG.read_text()))
    validate_config(prepared)
    assert prepared["max_workers"] == sum(kind.get("max_workers", 0) for kind in TYPES.values())


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config(yaml.safe_load(CONFIG.read_text()) | {"idle_timeout": 5}))


def test_the_head_runs_no_work_and_is_no_spot_instance() -> None:
    head = TYPES[CLUSTER["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in CLUSTER["head_start_ray_commands"][-1]
    assert "InstanceMarketOptions" not in head["node_config"]


def test_workers_are_spot_instances_that_may_be_none() -> None:
    workers = {name: kind for name, kind in TYPES.items() if name != CLUSTER["head_node_type"]}
    assert set(workers) == {"gpu", "cpu"}
    for kind in workers.values():
        assert kind["min_workers"] == 0 < kind["max_workers"]
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_every_node_demands_the_token_and_has_no_key_and_no_public_address() -> None:
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token" in CLUSTER[commands][-1]
    assert "--dashboard-host=127.0.0.1" in CLUSTER["head_start_ray_commands"][-1]
    assert CLUSTER["provider"]["use_internal_ips"]
    assert all("IamInstanceProfile" in kind["node_config"] for kind in TYPES.values())
    assert not re.search("AKIA|SECRET|access_key", CONFIG.read_text())


def test_nodes_install_what_is_pinned_and_not_the_project() -> None:
    installing = CLUSTER["setup_commands"][-1]
    assert "-c constraints.txt -r requirements.txt" in installing
    assert "install -e" not in installing and "menagerie[" not in installing


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    head = ray_heads.start_elastic(tmp_path, CONFIG)
    try:
        time.sleep(3)  # a config that the autoscaler refuses ends the head a little later
        assert head.process.poll() is None, (head.home / "head.log").read_text()
        yield head
    finally:
        head.stop()


def kinds(head: Head) -> Counter[str]:
    """The nodes that are there, by their resources, as cluster.yaml names them."""
    names = {(kind["resources"].get("CPU", 0), kind["resources"].get("GPU", 0)): name for name, kind in TYPES.items()}
    nodes = head.get("/api/v0/nodes?detail=1")["data"]["result"]["result"]
    alive = [node["resources_total"] for node in nodes if node["state"] == "ALIVE"]
    return Counter(names[(node.get("CPU", 0), node.get("GPU", 0))] for node in alive)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_models_start_gpus_and_cpus_and_leave_only_the_head(head: Head, tmp_path: Path, jpegs: list[bytes]) -> None:
    """All models start nodes with GPUs and nodes with CPUs; when they are done, nothing is left but the head."""
    data, store = faulty_runs.put_shards(str(tmp_path / "val"), jpegs, 24), str(tmp_path / "out")
    assert kinds(head) == {"head": 1}
    options = ["--models", "all", "--data", data, "--store", store, "--batch-size", str(faulty_runs.IMAGES)]
    own = ["-m", "tests.support.without_cuda", "--gpus", "2", "--tracking-uri", "none"]
    driver, seen = head.run(sys.executable, *own, *options), kinds(head)
    while driver.process.poll() is None:
        seen |= kinds(head)
    code, said = driver.wait()
    assert code == 3, said  # models without weights
    assert "waiting  for a node with a GPU" in said
    assert faulty_runs.keys(store) == sorted(str(i) for i in range(24 * faulty_runs.IMAGES))
    assert set(seen) == {"head", "gpu", "cpu"}
    assert seen["head"] == 1
    faulty_runs.wait_until(lambda: kinds(head) == {"head": 1}, seconds=90)
