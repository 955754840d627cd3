"""kuberay.yaml is what Kubernetes and KubeRay take, and says what this project relies on."""

import copy
import functools
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.scripts.scripts import start

from jobs.console import cli
from jobs.evaluate import EvaluateConfig
from tests.support.paths import ROOT

TEXT = (ROOT / "kuberay.yaml").read_text()
CLUSTER, JOB = yaml.safe_load_all(TEXT)
SPEC, HEAD, WORKERS = CLUSTER["spec"], CLUSTER["spec"]["headGroupSpec"], CLUSTER["spec"]["workerGroupSpecs"]
SCHEMA = jsonschema.Draft202012Validator(yaml.safe_load((ROOT / "tests" / "kuberay_schema.yaml").read_text()))
FREE = {
    "labels",
    "nodeSelector",
    "requests",
    "limits",
    "rayStartParams",
    "clusterSelector",
}  # keys that no schema knows


def pods(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What of a document Kubernetes' own schemas know, as pods; the autoscaler is a container beside the head."""
    spec = document["spec"]
    if document["kind"] == "RayJob":
        return {"submitter": spec["submitterPodTemplate"]}
    options = {key: value for key, value in spec["autoscalerOptions"].items() if key.startswith("securityContext")}
    autoscaler = {"spec": {"containers": [{"name": "autoscaler", **options}]}}
    workers = {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
    return {"autoscaler": autoscaler, "head": spec["headGroupSpec"]["template"], **workers}


PODS = pods(CLUSTER) | pods(JOB)


def check_pod(template: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "checked"}, "template": template}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


def fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to everything that has a name."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(key, str) and FREE.isdisjoint(path):
            yield (*path, key)
        yield from fields(item, (*path, key))


@pytest.mark.parametrize("name", [*PODS])
def test_every_pod_is_valid_kubernetes(name: str) -> None:
    check_pod(PODS[name])


@pytest.mark.parametrize("document", [CLUSTER, JOB])
def test_fields_and_values_are_those_of_the_custom_resources(document: dict[str, Any]) -> None:
    SCHEMA.validate(document)


@pytest.mark.parametrize("document", [CLUSTER, JOB])
def test_a_misspelt_field_is_refused(document: dict[str, Any]) -> None:
    for path in fields(document):
        broken = copy.deepcopy(document)
        parent = functools.reduce(lambda value, key: value[key], path[:-1], broken)
        parent[f"{path[-1]}x"] = parent.pop(path[-1])
        if SCHEMA.is_valid(broken):
            changed = next(pod for pod in pods(broken).values() if pod not in PODS.values())
            with pytest.raises(kubernetes_validate.ValidationError):
                check_pod(changed)


@pytest.mark.parametrize(
    ("document", "changed"), [(CLUSTER, {"authOptions": {"mode": "on"}}), (JOB, {"backoffLimit": 1})]
)
def test_what_the_operator_refuses_is_refused(document: dict[str, Any], changed: dict[str, Any]) -> None:
    assert not SCHEMA.is_valid(document | {"spec": document["spec"] | changed})


def test_it_is_the_ray_that_is_pinned() -> None:
    assert f"\nray=={SPEC['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    options = {flag for option in start.params for flag in option.opts}
    assert {f"--{name}" for group in [HEAD, *WORKERS] for name in group["rayStartParams"]} <= options


def test_the_head_runs_no_work() -> None:
    assert HEAD["rayStartParams"]["num-cpus"] == "0"


def test_tokens_are_demanded_and_nothing_is_exposed() -> None:
    assert SPEC["authOptions"] == {"mode": "token"}
    assert (HEAD["serviceType"], HEAD["enableIngress"]) == ("ClusterIP", False)


def test_no_secret_is_in_the_file() -> None:
    assert not re.search(r"AKIA|ASIA|kind: Secret|secretKeyRef|(SECRET|PASSWORD|ACCESS_KEY|TOKEN)\w*\b", TEXT)
    assert {PODS[name]["spec"]["serviceAccountName"] for name in ("head", "gpu", "cpu")} == {"menagerie"}


def test_workers_scale_from_none_to_none() -> None:
    assert " --gpus " in JOB["spec"]["entrypoint"]
    assert SPEC["enableInTreeAutoscaling"] and SPEC["autoscalerOptions"]["version"] == "v2"
    assert {group["groupName"]: group["minReplicas"] for group in WORKERS} == {"gpu": 0, "cpu": 0}
    assert all("replicas" not in group and group["maxReplicas"] > 0 for group in WORKERS)


@pytest.mark.parametrize("group", [HEAD, *WORKERS])
def test_objects_fit_into_shared_memory_and_with_tasks_into_the_pod(group: dict[str, Any]) -> None:
    pod, asked = group["template"]["spec"], group["rayStartParams"]
    gibibytes = {volume["name"]: int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi")) for volume in pod["volumes"]}
    mounted = {mount["mountPath"]: gibibytes[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
    limit = int(pod["containers"][0]["resources"]["limits"]["memory"].removesuffix("Gi"))
    objects = int(asked["object-store-memory"]) / 2**30
    assert objects < mounted["/dev/shm"] and objects + int(asked.get("memory", 0)) / 2**30 < limit
    assert asked["object-spilling-directory"] in mounted


@pytest.mark.parametrize("group", [HEAD, *WORKERS])
def test_what_ends_has_the_time_that_it_is_told_within_a_spot_notice(group: dict[str, Any]) -> None:
    pod = group["template"]["spec"]
    told = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    seconds = told["RAY_JOB_STOP_WAIT_TIME_S" if group is HEAD else "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]
    assert 30 <= int(seconds) < pod["terminationGracePeriodSeconds"] < 120


@pytest.mark.parametrize("name", [*PODS])
def test_no_pod_may_more_than_it_needs(name: str) -> None:
    (container,) = PODS[name]["spec"]["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    if name != "autoscaler":
        assert PODS[name]["spec"]["securityContext"]["runAsNonRoot"]
        assert PODS[name]["spec"]["automountServiceAccountToken"] == (name == "head")


def test_the_job_is_one_of_ours_and_may_run_on_this_cluster_again_and_again() -> None:
    command = JOB["spec"]["entrypoint"].split()
    assert command[:3] == ["python", "-m", EvaluateConfig.__module__]
    assert cli.parse(EvaluateConfig, command[3:]).dataset == "imagenet-val"
    assert JOB["spec"]["clusterSelector"] == {"ray.io/cluster": CLUSTER["metadata"]["name"]}
    assert "generateName" in JOB["metadata"] and not JOB["spec"]["shutdownAfterJobFinishes"]
