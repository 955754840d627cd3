"""A run of jobs.evaluate in this process, with the options that its tests share."""

from jobs import evaluate

MODEL = "efficientnet_lite0"


def run(data, store, *flags: str) -> int:
    return evaluate.main(["--models", MODEL, "--data", str(data), "--store", str(store), "--batch-size", "4", *flags])
