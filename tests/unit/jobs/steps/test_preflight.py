"""Covers jobs.steps.preflight: labels are compared with the classes of each model before Ray starts."""

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import pack_shards
from jobs.steps import label_checks, preflight, probes
from pipelines.cells.column import Column
from pipelines.cells.plan import plan_cells
from pipelines.data import evaluation_sets
from pipelines.data.dataset import find_dataset
from pipelines.data.evaluation_sets import EvaluationSet
from pipelines.records import Shard
from tests.support import cell_rows

FEW = replace(cell_rows.COLUMN, card=replace(cell_rows.CARD, name="few", num_classes=10))


@pytest.fixture
def data(tmp_path, write_tar, jpegs) -> Path:
    members = []
    for i, label in enumerate((3, 20, 41)):
        members += [(f"{i}.jpg", jpegs[i]), (f"{i}.cls", b"%d" % label)]
    write_tar(tmp_path / "val" / "0.tar", members)
    return tmp_path / "val"


def unfit(data: Path, *columns: Column) -> dict[str, str]:
    plan = plan_cells(str(data / "out"), find_dataset([str(data)]), columns)
    return label_checks.unfit(plan, preflight.probed(plan, 0.01))


def test_a_model_of_fewer_classes_loses_its_own_cells_alone(data) -> None:
    told = unfit(data, cell_rows.COLUMN, FEW)
    assert list(told) == [FEW.name]
    assert told[FEW.name].endswith("labels from 3 to 41, expected 0 to 9")
    with pytest.raises(ValueError, match="expected 0 to 9"):
        unfit(data, FEW)


def test_labels_of_which_none_counts_are_seen_before_anything_is_computed(data) -> None:
    assert unfit(data, replace(cell_rows.COLUMN, subset=(3, 7, 20))) == {}
    with pytest.raises(ValueError, match=r"of 3 labels, 2 are not one of the 2 classes .*; the first of these is 20"):
        unfit(data, replace(cell_rows.COLUMN, subset=(3, 7)))
    with pytest.raises(
        ValueError, match=r"no label is one of the 2 classes of the evaluation set, .* first label is 3"
    ):
        unfit(data, replace(cell_rows.COLUMN, subset=(4, 7)))


A = evaluation_sets.named("imagenet-a")
VAL = evaluation_sets.named("imagenet-val")
OF_A = replace(cell_rows.COLUMN, subset=A.subset)


@pytest.fixture
def labelled(tmp_path, write_tar) -> Callable[..., Path]:
    """Writes shards of samples with these labels, None for none; nothing is decoded, so any bytes are images."""

    def write(*shards: Sequence[int | None]) -> Path:
        for number, labels in enumerate(shards):
            members = []
            for i, label in enumerate(labels):
                members += [(f"{i}.jpg", b"image"), *([(f"{i}.cls", b"%d" % label)] if label is not None else [])]
            write_tar(tmp_path / "set" / f"{number:05d}.tar", members)
        return tmp_path / "set"

    return write


def unfit_as(known: EvaluationSet | None, data: Path, *columns: Column) -> dict[str, str]:
    plan = plan_cells(str(data / "out"), find_dataset([str(data)]), columns)
    return label_checks.unfit(plan, preflight.probed(plan, 0.01), known)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("ends", [(0, 200), (0, 40)])
def test_labels_that_number_the_classes_of_a_set_among_themselves_are_recognised(labelled, first, ends) -> None:
    data = labelled([label + first for label in range(*ends)], [199 + first] * 3)
    with pytest.raises(ValueError, match="the 200 classes of imagenet-a, numbered among themselves") as told:
        unfit_as(A, data, OF_A)
    assert f"where {first} is 6, {first + 1} is 11, … {first + 199} is 988: pack with these" in str(told.value)


def test_the_labels_of_a_set_of_few_classes_fit_and_so_do_small_labels_of_other_sets(labelled) -> None:
    assert A.subset
    assert unfit_as(A, labelled(A.subset, A.subset[:3]), OF_A) == {}
    assert unfit_as(VAL, labelled(range(200), range(5)), cell_rows.COLUMN) == {}
    assert unfit_as(A, labelled([6] * 40), OF_A) == {}


def test_a_set_with_labels_is_refused_where_none_has_any_with_what_was_seen(labelled) -> None:
    data = labelled([None] * 40, [None] * 2, [None])
    with pytest.raises(
        ValueError, match=r"no label in the 40 samples that were read of .*00000.tar and of 2 other sha"
    ):
        unfit_as(VAL, data, cell_rows.COLUMN)
    assert unfit_as(None, data, cell_rows.COLUMN) == {}
    assert unfit_as(replace(VAL, labelled=False), data, cell_rows.COLUMN) == {}
    assert unfit_as(VAL, labelled([None] * 40, [None, 5], [None]), cell_rows.COLUMN) == {}


@pytest.mark.parametrize("shards", [1, 2, 5, 30])
def test_a_wrong_label_at_the_beginning_or_the_end_of_the_data_is_seen(labelled, shards) -> None:
    for at, place in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        labels = [[7] * 70 for _ in range(shards)]
        labels[at][place] = 1000
        with pytest.raises(ValueError, match=r"labels from 7 to 1000, expected 0 to 999; do they count from 1\?"):
            unfit_as(None, labelled(*labels), cell_rows.COLUMN)


def test_of_large_shards_only_the_beginning_is_read(labelled, monkeypatch) -> None:
    monkeypatch.setattr(probes, "_MOST_BYTES", 1000)
    data = labelled([7] * 69 + [1000])
    assert unfit_as(None, data, cell_rows.COLUMN) == {}


def test_a_shard_that_breaks_off_late_is_left_to_the_walk_if_there_are_others(labelled) -> None:
    data = labelled([7] * 70, [7] * 70)
    whole = (data / "00000.tar").read_bytes()
    (data / "00000.tar").write_bytes(whole[: len(whole) // 2])
    assert unfit_as(VAL, data, cell_rows.COLUMN) == {}
    (data / "00001.tar").unlink()
    with pytest.raises(ValueError, match=r"no shard can be read \(1 tried\); .*00000\.tar: "):
        unfit_as(VAL, data, cell_rows.COLUMN)


def test_all_labels_after_all_pictures_are_seen_before_anything_starts(tmp_path, write_tar) -> None:
    pictures, labels = [(f"{n}.jpg", b"x") for n in range(40)], [(f"{n}.cls", b"7") for n in range(40)]
    write_tar(tmp_path / "val" / "0.tar", [*pictures, *labels])
    with pytest.raises(ValueError, match=r"members of sample '0' are not adjacent .*tar --sort=name"):
        unfit(tmp_path / "val", cell_rows.COLUMN)


def test_shards_without_any_picture_say_what_they_hold(tmp_path, write_tar) -> None:
    write_tar(tmp_path / "val" / "0.tar", [("a.jpg.gz", b"x"), ("b.flac", b"x")])
    with pytest.raises(ValueError, match="no sample in 1 shard; the members are no pictures: flac, gz"):
        unfit(tmp_path / "val", cell_rows.COLUMN)


@pytest.mark.parametrize("shards", [*range(1, 20), 100, 1000])
def test_the_first_and_the_last_shard_are_among_those_that_are_probed(shards) -> None:
    all_shards = [Shard(name=str(i), uri=str(i), size=1, etag="") for i in range(shards)]
    chosen = [int(shard.name) for shard in probes._spread(all_shards)]
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1], len(chosen)) == (0, shards - 1, min(shards, 8))


def with_links(folder: Path, good: int, bad: int) -> Path:
    """A shard of samples of which some are links that lead nowhere."""
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for i in range(good + bad):
            info = tarfile.TarInfo(f"{i}.jpg")
            if i >= good:
                info.type, info.linkname = tarfile.SYMTYPE, "/elsewhere.jpg"
            tar.addfile(info)
    return folder


@pytest.mark.parametrize(("good", "bad", "refused"), [(30, 10, True), (31, 9, False), (0, 3, True), (90, 30, True)])
def test_as_many_unusable_samples_as_would_stop_the_walk_stop_it_before_it_begins(
    tmp_path, good: int, bad: int, refused: bool
) -> None:
    plan = plan_cells(str(tmp_path / "out"), find_dataset([str(with_links(tmp_path / "val", good, bad))]), [FEW])
    assert preflight.probed(plan, 1.0)
    if refused:
        with pytest.raises(ValueError, match=r"that were read cannot be used; the first, .*: link: leads to"):
            preflight.probed(plan, 0.01)
    else:
        assert preflight.probed(plan, 0.01)


def test_names_in_a_manifest_that_number_fewer_classes_than_the_models_are_refused(tmp_path, jpegs) -> None:
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "a.jpg").write_bytes(jpegs[number])
    options = ["--images", str(tmp_path / "photos"), "--output", str(tmp_path / "val"), "--classes", "sorted"]
    assert pack_shards.main(options) == 0
    with pytest.raises(ValueError, match=r"its labels number 2 classes \(cat, dog, …\), the model has 1000"):
        unfit(tmp_path / "val", cell_rows.COLUMN)
