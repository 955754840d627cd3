"""What the method is worth: teacher, baseline and student on digits, by the number of labels, over seeds.

The recipe and the parts are the quickstart's; orders, augmentation, steps and selection are the service's own, run here
one after the other in one process, since a cluster's start-up would be most of the time. Leaves students.png.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats

from jobs import pack_shards, train_student
from jobs.quickstart import digits
from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.models.engine import Engine
from pipelines.pixels import exact_decode
from pipelines.pixels.random_crop import Augmentation
from pipelines.records import PLAIN, Dataset
from pipelines.training.learner import ComputeSettings, Learner
from pipelines.training.sampling import order
from pipelines.training.sampling.batches import SampleBatch, gather_batches
from pipelines.training.sampling.samples import RANGE, WorkerShare, decode_samples, read_ranges
from pipelines.training.specification import Stage
from tests.support.shard_files import tar_of
from zoo.architectures.table import find_architecture
from zoo.preprocessing import Preprocessing

LABELS, SEEDS = (20, 50, 100, 200), range(5)
SEEN = Preprocessing(size=digits.RECIPE["size"], crop_pct=1.0, interpolation="bilinear")
NAMES = ("teacher", "baseline", "student")

pytestmark = [pytest.mark.benchmark_run, pytest.mark.timeout(7200)]


def test_students_by_the_number_of_labels(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    found = {count: np.array([_accuracies(tmp_path, count, seed) for seed in SEEDS]) for count in LABELS}
    for count, accuracies in found.items():
        gain, half = _interval(accuracies[:, 2] - accuracies[:, 1])
        means = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(NAMES, accuracies.mean(axis=0), strict=True))
        print(f"{count} labels: {means}; student less baseline {gain:+.2f} ±{half:.2f} points over {len(SEEDS)} seeds")
    _draw(found).savefig("students.png")


def _accuracies(folder: Path, labelled: int, seed: int) -> list[float]:
    parts = _parts(folder / f"{labelled}-{seed}", labelled, seed)
    config = train_student.TrainStudentConfig(model=digits.STUDENT, pretrain=(), val=())
    pre, fine = (replace(getattr(config, stage), **_fields(digits.RECIPE[stage])) for stage in ("pre", "fine"))
    labels = Stage(name="pretrain", recipe=pre, dataset=parts["labelled"], rows=_rows(parts["labelled"]), streams=8)
    teacher = _learnt(digits.TEACHER, [labels], seed)
    baseline = _learnt(digits.STUDENT, [labels], seed)
    chosen = _chosen(teacher, parts["pool"], str(folder / f"{labelled}-{seed}" / "chosen"))
    stages = [
        Stage(
            name="pretrain",
            recipe=replace(pre, images=digits.STUDENT_IMAGES),
            dataset=chosen,
            rows=_rows(chosen),
            streams=8,
        ),
        replace(labels, name="finetune", recipe=fine),
    ]
    student = _learnt(digits.STUDENT, stages, seed)
    return [_top1(model, parts["val"]) for model in (teacher, baseline, student)]


def _fields(options: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _rows(dataset: Dataset) -> tuple[int, ...]:
    return tuple(shard.rows or 0 for shard in dataset.shards)


def _parts(folder: Path, labelled: int, seed: int) -> dict[str, Dataset]:
    digits.write_images(str(folder), labelled, seed)
    for part in digits.PARTS:
        labels = [] if part == "pool" else ["--labels", f"{folder}/{part}/labels.csv"]
        where = ["--images", f"{folder}/{part}", "--output", f"{folder}/shards/{part}", "--samples-per-shard", "100"]
        assert pack_shards.main([*where, *labels]) == 0
    return {part: find_dataset([f"{folder}/shards/{part}"]) for part in digits.PARTS}


def _learnt(model: str, stages: Sequence[Stage], seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    network = find_architecture(model).build(digits.CLASSES)
    for stage in stages:
        settings = ComputeSettings(device="cpu", precision="fp32", channels_last=False, seed=seed)
        learner = Learner(network, SEEN, stage.recipe, settings)
        for batch in _batches(stage, seed):
            learner.gradients(batch, stage.name)
            learner.step(stage.recipe.lr(batch.step, stage.steps))
        network.load_state_dict(learner.weights())
    return network.eval()


def _batches(stage: Stage, seed: int) -> Iterator[SampleBatch]:
    given, how = stage.order(seed), stage.recipe
    looks = Augmentation(
        size=SEEN.size, interpolation="bilinear", scale=how.crop_scale, ratio=how.crop_ratio, flip=how.flip
    )
    share = WorkerShare(
        order=given,
        slots=order.worker_slots(given, 0, 1),
        shards=stage.dataset.shards,
        augmentation=looks,
        classes=digits.CLASSES,
    )
    ranges = order.ranges(given, 0, stage.steps)
    tables = (pa.Table.from_pylist([{"start": one.start, "stop": one.stop}], RANGE) for one in ranges)
    chunks = itertools.chain.from_iterable(read_ranges(table, share) for table in tables)
    return gather_batches((decode_samples(chunk, share.augmentation, share.salt) for chunk in chunks), share)


def _probabilities(model: torch.nn.Module, samples: Sequence) -> np.ndarray:
    engine = Engine(model, SEEN, PLAIN, torch.device("cpu"), digits.CLASSES)
    pictures = [exact_decode.decode(sample.image, [SEEN.geometry])[0] for sample in samples]
    return engine.launch(np.stack(pictures))().probs


def _samples(dataset: Dataset) -> list:
    return [sample for shard in dataset.shards for sample in read.samples(shard)]


def _chosen(teacher: torch.nn.Module, pool: Dataset, folder: str) -> Dataset:
    """Of each class the K pictures that the teacher scores highest among those of which it is the first class."""
    samples = _samples(pool)
    probabilities = _probabilities(teacher, samples)
    members = []
    for label in range(digits.CLASSES):
        own = np.flatnonzero(probabilities.argmax(axis=1) == label)
        best = own[np.argsort(-probabilities[own, label], kind="stable")][: digits.K]
        members += [(f"{label}-{rank}", samples[at].image, label) for rank, at in enumerate(best)]
    mixed = np.random.default_rng(0).permutation(len(members))
    entries = [
        entry
        for at in mixed
        for entry in ((f"{members[at][0]}.png", members[at][1]), (f"{members[at][0]}.cls", b"%d" % members[at][2]))
    ]
    Path(folder).mkdir()
    Path(folder, "00000.tar").write_bytes(tar_of(entries))
    found = find_dataset([folder])
    return replace(found, shards=(replace(found.shards[0], rows=len(members)),))


def _top1(model: torch.nn.Module, val: Dataset) -> float:
    samples = _samples(val)
    return 100 * float((_probabilities(model, samples).argmax(axis=1) == [sample.label for sample in samples]).mean())


def _interval(values: np.ndarray) -> tuple[float, float]:
    """The mean and half of its 95 % interval (Student's t)."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(half)


def _draw(found: dict[int, np.ndarray]) -> Figure:
    figure = Figure(figsize=(7.0, 6.0), dpi=120, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for place, (name, colour) in enumerate(zip(NAMES, ("#9aa5b1", "#3b6ea5", "#d9694f"), strict=True)):
        means, halves = zip(*(_interval(accuracies[:, place]) for accuracies in found.values()), strict=True)
        above.errorbar(list(found), means, halves, label=name, color=colour, marker="o", capsize=3)
    gains, halves = zip(*(_interval(one[:, 2] - one[:, 1]) for one in found.values()), strict=True)
    below.errorbar(list(found), gains, halves, color="#d9694f", marker="o", capsize=3)
    below.axhline(0, color="#444444", linewidth=1)
    above.set(ylabel="top-1 on 600 digits, %", title=f"Digits: mean and 95 % interval over {len(SEEDS)} seeds")
    above.legend(frameon=False)
    below.set(
        xlabel="labelled pictures",
        ylabel="student less baseline",
        xscale="log",
        xticks=list(found),
        xticklabels=list(found),
    )
    below.minorticks_off()
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e3e6ea")
    return figure
