"""packing.archives: an archive is packed as its unpacked folder would be; each evaluation set in its own layout."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.image_archives import Files, packed, picture, refused, tar_of, unpack, zip_of
from zoo import imagenet

SYNSETS = imagenet.synsets()


V2 = {f"imagenetv2-matched-frequency-format-val/{label}/{label:040x}.jpeg": picture(label) for label in (0, 2, 10, 999)}
A = {
    "imagenet-a/n01498041/0.000116_digital clock _ digital clock_0.865662.jpg": picture(1),
    "imagenet-a/n01531178/0.000154_vulture _ vulture_0.87.jpg": picture(2),
    "imagenet-a/README.txt": b"class names",
}
R = {
    f"imagenet-r/{SYNSETS[label]}/{kind}_0.jpg": picture(label)
    for label, kind in ((1, "art"), (2, "cartoon"), (965, "toy"))
}
R["imagenet-r/README.txt"] = b"class names"
SKETCH = {f"sketch/{SYNSETS[label]}/sketch_{label}.JPEG": picture(label) for label in (0, 1, 999)}
LAYOUTS = {
    "imagenet-v2": ("imagenetv2-matched-frequency.tar.gz", gzip.compress(tar_of(V2)), V2, [0, 10, 2, 999]),
    "imagenet-a": ("imagenet-a.tar", tar_of(A), A, [6, 11]),
    "imagenet-r": ("imagenet-r.tar", tar_of(R), R, [1, 2, 965]),
    "imagenet-sketch": ("ImageNet-Sketch.zip", zip_of(SKETCH), SKETCH, [0, 1, 999]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_evaluation_set_is_packed_from_its_own_archive_and_as_its_folder(tmp_path: Path, name: str) -> None:
    file, data, files, labels = LAYOUTS[name]
    (tmp_path / file).write_bytes(data)
    unpack(files, tmp_path / "folder")
    samples = packed(tmp_path / file, tmp_path / "a")
    assert [label for _, (_, label) in sorted(samples.items())] == labels
    assert samples == {
        key.rpartition(".")[0]: (files[key], samples[key.rpartition(".")[0]][1]) for key in files if "README" not in key
    }
    packed(tmp_path / "folder", tmp_path / "b")
    assert (tmp_path / "a/00000.tar").read_bytes() == (tmp_path / "b/00000.tar").read_bytes()


def test_kaggles_validation_set_is_packed_with_its_solution(tmp_path: Path) -> None:
    names = {f"ILSVRC2012_val_{number:08d}": label for number, label in ((1, 65), (2, 970), (3, 0))}
    unpack({f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG": picture(label) for name, label in names.items()}, tmp_path)
    rows = [f"{name},{SYNSETS[label]} 1 2 3 4 {SYNSETS[label]} 5 6 7 8 \n" for name, label in reversed(names.items())]
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(rows))
    solution = ["--labels", f"{tmp_path}/LOC_val_solution.csv"]
    samples = packed(tmp_path / "ILSVRC/Data/CLS-LOC/val", tmp_path / "out", *solution)
    assert {key: label for key, (_, label) in samples.items()} == names
    whole = packed(tmp_path / "ILSVRC", tmp_path / "whole", *solution)
    assert [label for _, label in whole.values()] == list(names.values())


TREES = st.dictionaries(
    st.tuples(st.sampled_from(["1", "02", "700"]), st.from_regex(r"[a-z][a-z .]{0,4}[a-z]", fullmatch=True)).map(
        "/".join
    ),
    st.binary(min_size=1, max_size=600),
    min_size=2,
    max_size=6,
).filter(lambda tree: len({key.split("/")[0] for key in tree}) > 1)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, prefix=st.sampled_from(["", "./", "a/", "./a/b/"]), limit=st.integers(1, 6))
def test_an_archive_gives_the_bytes_of_its_unpacked_folder(
    tmp_path_factory: pytest.TempPathFactory, tree: Files, prefix: str, limit: int
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    files = {f"{prefix}{key}.jpg": data for key, data in tree.items()}
    unpack(files, folder / "unpacked")
    plain = tar_of(files)
    forms = {"t.tar": plain, "t.tgz": gzip.compress(plain), "t.tar.bz2": bz2.compress(plain), "t": lzma.compress(plain)}
    forms |= {"t.zip": zip_of(files), "stored.zip": zip_of(files, zipfile.ZIP_STORED)}
    options = ["--limit", str(limit), "--samples-per-shard", "2"]
    expected = packed(folder / "unpacked", folder / "out", *options)
    for name, data in forms.items():
        (folder / name).write_bytes(data)
        assert packed(folder / name, folder / f"out.{name}", *options) == expected
        for shard in sorted((folder / "out").iterdir()):
            assert (folder / f"out.{name}" / shard.name).read_bytes() == shard.read_bytes()


def test_links_in_a_tar_are_the_files_that_they_mean(tmp_path: Path) -> None:
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    links = [("2/h.jpg", "1/a.jpg", hard), ("3/s.jpg", "../1/a.jpg", soft), ("3/t.jpg", "s.jpg", soft)]
    (tmp_path / "t.tar").write_bytes(tar_of({"1/a.jpg": b"picture"}, *links))
    samples = packed(tmp_path / "t.tar", tmp_path / "out")
    pairs = {"1/a": 1, "2/h": 2, "3/s": 3, "3/t": 3}
    assert samples == {key: (b"picture", label) for key, label in pairs.items()}


@pytest.mark.parametrize("target", ["nowhere.jpg", "../1", "/etc/passwd", "."])
def test_a_link_in_a_tar_that_means_no_file_of_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    for name in ("2/l.jpg", "2/l.GIF", "metadata.csv", "2/a.cls"):
        link = (name, target, tarfile.SYMTYPE)
        (tmp_path / "t.tar").write_bytes(tar_of({"1/a.jpg": b"x", "2/a.jpg": b"x"}, link))
        said = refused(tmp_path / "t.tar", capsys)
        assert f"t.tar: {name} is a link to {target}, which is no file of the archive; tar --dereference" in said
        assert "damaged" not in said


@pytest.mark.parametrize("target", ["nowhere", "../1", "/etc/passwd", "README"])
def test_a_link_in_a_tar_that_would_not_be_packed_may_lead_anywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    links = [(name, target, tarfile.SYMTYPE) for name in ("2/README", "2/._a.jpg")]
    (tmp_path / "t.tar").write_bytes(tar_of({"1/a.jpg": b"x", "2/a.jpg": b"x"}, *links))
    assert list(packed(tmp_path / "t.tar", tmp_path / "out")) == ["1/a", "2/a"]
    assert "t.tar: 2 links lead to no file of it and are left out (2/README, 2/._a.jpg)" in caplog.text


def test_labels_and_classes_go_with_archives_too(tmp_path: Path) -> None:
    (tmp_path / "t.tar").write_bytes(tar_of({"x/cat/1.jpg": b"1", "x/dog/2.jpg": b"2"}))
    (tmp_path / "l.csv").write_text("path,label\ncat/1.jpg,4\ndog/2.jpg,5\n")
    (tmp_path / "c.txt").write_text("dog\ncat\n")
    for options, labels in [
        (["--labels", f"{tmp_path}/l.csv"], [4, 5]),
        (["--classes", f"{tmp_path}/c.txt"], [1, 0]),
        (["--classes", "sorted"], [0, 1]),
        (["--classes", "none"], [None, None]),
    ]:
        samples = packed(tmp_path / "t.tar", tmp_path / f"out{labels}", *options)
        assert [label for _, label in samples.values()] == labels


def test_an_empty_class_in_an_archive_would_shift_positions_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tarfile.DIRTYPE
    (tmp_path / "t.tar").write_bytes(tar_of({"cat/1.jpg": b"1", "dog/2.jpg": b"2"}, ("bird", "", folder)))
    (tmp_path / "t.zip").write_bytes(zip_of({"cat/1.jpg": b"1", "dog/2.jpg": b"2", "bird/": b""}))
    for name in ("t.tar", "t.zip"):
        assert "no image in bird" in refused(tmp_path / name, capsys, "--classes", "sorted")


def test_metadata_in_an_archive_has_the_labels(tmp_path: Path) -> None:
    files = {"train/1.jpg": b"1", "train/2.jpg": b"2", "train/metadata.csv": b"file_name,label\n1.jpg,8\n2.jpg,9\n"}
    for name, data in (("t.tar", tar_of(files)), ("t.zip", zip_of(files))):
        (tmp_path / name).write_bytes(data)
        assert [label for _, label in packed(tmp_path / name, tmp_path / f"out.{name}").values()] == [8, 9]
