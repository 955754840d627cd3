"""Samples and batches: the same for any number of workers and from any step; a sample with an error keeps its slot."""

from pathlib import Path

import numpy as np

from pipelines import storage
from pipelines.data.dataset import find_dataset
from pipelines.training.sampling.batches import IGNORED
from tests.support.shard_files import tar_of
from tests.support.small_trainings import CLASSES, batches, image, put, worker_share


def test_workers_together_are_fed_what_one_is_and_any_step_can_be_the_first(tmp_path: Path):
    dataset = put(str(tmp_path))
    whole = batches(worker_share(dataset, (12,) * 4), 0, 9)
    assert [batch.step for batch in whole] == list(range(9))
    for workers in (2, 4, 8):
        parts = [
            batches(worker_share(dataset, (12,) * 4, rank=rank, world_size=workers), 4, 9) for rank in range(workers)
        ]
        for batch, of_workers in zip(whole[4:], zip(*parts, strict=True), strict=True):
            assert {part.step for part in of_workers} == {batch.step}
            assert sum((part.keys for part in of_workers), ()) == batch.keys
            assert np.array_equal(np.concatenate([part.pixels for part in of_workers]), batch.pixels)
            assert np.array_equal(np.concatenate([part.labels for part in of_workers]), batch.labels)


def test_labels_go_with_their_keys_and_a_sample_looks_otherwise_in_another_epoch(tmp_path: Path):
    dataset = put(str(tmp_path), shards_=1, rows=16)
    first, second = batches(worker_share(dataset, (16,)), 0, 2)
    for batch in (first, second):
        assert [int(key.split("-")[1]) % CLASSES for key in batch.keys] == batch.labels.tolist()
    again = second.pixels[[second.keys.index(key) for key in first.keys]]
    assert not any(np.array_equal(a, b) for a, b in zip(first.pixels, again, strict=True))


def test_what_cannot_be_read_or_has_no_label_that_counts_keeps_its_place_and_says_why(tmp_path: Path):
    members = [
        *[("good.png", image(1, 0)), ("good.cls", b"1")],
        *[("broken.png", b"nonsense"), ("broken.cls", b"2")],
        *[("beyond.png", image(1, 1)), ("beyond.cls", b"4")],
        ("unlabelled.png", image(1, 2)),
    ]
    (tmp_path / "0.tar").write_bytes(tar_of(members))
    (batch,) = batches(worker_share(find_dataset([str(tmp_path)]), (4,), batch=4), 0, 1)
    errors = {batch.keys[row]: error.partition(":")[0] for row, error in batch.errors.items()}
    assert errors == {"broken": "not an image", "beyond": "label out of range", "unlabelled": "missing label"}
    labels = dict(zip(batch.keys, batch.labels.tolist(), strict=True))
    assert labels == {"good": 1, "broken": IGNORED, "beyond": IGNORED, "unlabelled": IGNORED}
    assert not batch.pixels[batch.keys.index("broken")].any()


def test_a_shard_that_cannot_be_read_or_has_changed_is_bad_samples_that_name_it(tmp_path: Path):
    dataset = put(str(tmp_path), shards_=2)
    shard = dataset.shards[1]
    content = storage.read(shard.uri)
    for damage, reason in (
        (b"nonsense", "unreadable shard: "),
        (content[:5000], "unreadable shard: "),
        (content + bytes(1024), "changed since it was listed"),
    ):
        Path(shard.uri).write_bytes(damage)
        (batch,) = batches(worker_share(dataset, (12, 12), batch=24), 0, 1)
        assert len(batch.errors) == 12
        assert {batch.labels[row] for row in batch.errors} == {IGNORED}
        assert all(shard.uri in error and reason in error for error in batch.errors.values())
        assert all(batch.keys[row].startswith("00001#") for row in batch.errors)
    storage.remove([shard.uri])
    (batch,) = batches(worker_share(dataset, (12, 12), batch=24), 0, 1)
    assert sum("FileNotFoundError" in error for error in batch.errors.values()) == 12
