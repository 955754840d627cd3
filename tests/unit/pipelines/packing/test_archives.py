"""packing.archives: an archive is packed as its unpacked folder would be; each evaluation set in its own layout."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import pack_shards
from pipelines.data import read
from pipelines.data.dataset import find_dataset
from pipelines.packing import archives
from tests.support.pictures import noise
from zoo import imagenet

SYNSETS = imagenet.synsets()
Files = dict[str, bytes]


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise(24, 20, seed=seed).save(buffer, "JPEG")
    return buffer.getvalue()


def tar_of(files: Files, *links: tuple[str, str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, target, kind in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    return buffer.getvalue()


def zip_of(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def unpack(files: Files, folder: Path) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def packed(images: Path, output: Path, *options: str) -> dict[str, tuple[bytes | None, int | None]]:
    assert pack_shards.main(["--images", str(images), "--output", str(output), *options]) == 0
    samples = [sample for shard in find_dataset([str(output)]).shards for sample in read.samples(shard)]
    return {sample.key: (sample.image, sample.label) for sample in samples}


def refused(images: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert pack_shards.main(["--images", str(images), "--output", f"{images}.out", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: gzip.compress(data)[:-9], "not a tar, or damaged"),
        (lambda data: gzip.compress(data)[:20], "not a tar, or damaged"),
        (lambda data: gzip.compress(b"text"), "not a tar, or damaged"),
        (lambda data: lzma.compress(data)[:-20], "not a tar, or damaged"),
        (lambda data: b"PAR1" + data, "is Parquet, no archive of images; jobs.evaluate --data reads it"),
        (lambda data: data[:600], "not a tar, or damaged"),
        (lambda data: b"\x28\xb5\x2f\xfd" + data, "compressed by zstd; inflate it first: zstd -d"),
        (lambda data: zip_of({"1/a.jpg": b"x", "2/a.jpg": b"y"})[:-30], "not a tar, or damaged"),
        (lambda data: zip_of({"1/a.txt": b"x"}), "no image"),
    ],
)
def test_an_archive_that_is_damaged_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[bytes], bytes], said: str
) -> None:
    (tmp_path / "t").write_bytes(change(tar_of({"1/a.jpg": b"x" * 700, "2/a.jpg": b"y" * 700})))
    assert said in refused(tmp_path / "t", capsys)


def test_a_flipped_bit_in_a_zip_is_found_by_its_checksum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = zip_of({"1/a.jpg": b"x" * 700, "2/a.jpg": b"y" * 700}, zipfile.ZIP_STORED)
    (tmp_path / "t.zip").write_bytes(data.replace(b"yyyy", b"yyzy", 1))
    assert "2/a.jpg is damaged" in refused(tmp_path / "t.zip", capsys)


def test_what_inflates_beyond_all_proportion_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_LEAST", 1 << 16)
    (tmp_path / "t.tar.gz").write_bytes(gzip.compress(tar_of({"1/a.jpg": bytes(1 << 22), "2/a.jpg": b"x"})))
    assert "inflates to more than" in refused(tmp_path / "t.tar.gz", capsys)


def test_images_in_no_folder_of_an_archive_need_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.tar").write_bytes(tar_of({"1.jpg": b"1", "2.jpg": b"2"}))
    said = refused(tmp_path / "t.tar", capsys)
    assert "has no labels in it; give --devkit ILSVRC2012_devkit_t12.tar.gz, --labels FILE, or --classes none" in said
    assert list(packed(tmp_path / "t.tar", tmp_path / "out", "--classes", "none")) == ["1", "2"]


def test_a_shard_is_not_packed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "00000.tar").write_bytes(tar_of({"1.jpg": b"1", "1.cls": b"5"}))
    assert "is a shard already, with labels in its .cls members" in refused(tmp_path / "00000.tar", capsys)


def test_archives_in_place_of_images_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unpack({"train.zip": b"x", "README": b"x"}, tmp_path / "t")
    said = refused(tmp_path / "t", capsys)
    assert "no image" in said
    assert "among 2 files; --images takes a tar or zip itself, others are unpacked first: train.zip" in said


@pytest.mark.parametrize("classes", [(), ("--classes", "sorted")])
def test_a_shard_with_folders_in_its_keys_is_not_packed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: tuple[str, ...]
) -> None:
    files = {"1/a.jpg": b"1", "1/a.cls": b"5", "2/b.png": b"2", "2/b.cls": b"6"}
    (tmp_path / "0.tar").write_bytes(tar_of(files))
    (tmp_path / "0.zip").write_bytes(zip_of(files))
    unpack(files, tmp_path / "0")
    for name in ("0.tar", "0.zip", "0"):
        said = refused(tmp_path / name, capsys, *classes)
        assert "is a shard already, with labels in its .cls members (1/a.cls, 2/b.cls); jobs.evaluate --data" in said
    assert list(packed(tmp_path / "0", tmp_path / "out", "--classes", "none")) == ["1/a", "2/b"]


@pytest.mark.parametrize("suffix", ["gif", "BMP", "dib", "tif", "tiff", "avif"])
def test_a_picture_of_any_kind_that_is_decoded_is_a_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    files = {"1/a.jpg": b"a", f"2/b.{suffix}": b"b"}
    (tmp_path / "t.tar").write_bytes(tar_of(files))
    (tmp_path / "t.zip").write_bytes(zip_of(files))
    for name in ("t.tar", "t.zip"):
        assert packed(tmp_path / name, tmp_path / f"{name}.out") == {"1/a": (b"a", 1), "2/b": (b"b", 2)}
    unpack({**files, f"1/a.{suffix}": b"c"}, tmp_path / "t")
    capsys.readouterr()
    assert "would have the same key" in refused(tmp_path / "t", capsys)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it first"),
        ("a.rar", b"Rar!\x1a\x07", "is a RAR archive; unpack it first"),
        ("a.zip", b"PK\x05\x06" + bytes(18), "is an empty zip"),
        ("a.jpg", picture(1), "is one picture; give the folder that holds it"),
        ("a.heic", b"x" * 600, "is one picture; give the folder that holds it"),
        ("a.csv", b"uri,label\ns3://b/1.jpg,1\n", "is a table or list, no archive of images; --keys packs"),
        ("a.txt", b"", "is a table or list"),
    ],
)
def test_a_file_that_is_no_archive_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    assert f"{tmp_path}/{name}: {said}" in refused(tmp_path / name, capsys)


def test_an_archive_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(tar_of({"1/a.jpg": b"a", "2/b.jpg": b"b"}))
    assert list(packed(tmp_path / "t.txt", tmp_path / "out")) == ["1/a", "2/b"]


@pytest.mark.parametrize("system", [0, 3])
def test_a_zip_of_windows_may_write_backslashes(tmp_path: Path, system: int) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for name, data in {"set\\": b"", "set\\cat\\1.jpg": b"1", "set\\dog\\2.jpg": b"2"}.items():
            info = zipfile.ZipInfo(name)
            info.create_system = system
            archive.writestr(info, data)
    samples = packed(tmp_path / "t.zip", tmp_path / "out", "--classes", "sorted")
    assert samples == {"set/cat/1": (b"1", 0), "set/dog/2": (b"2", 1)}


def test_what_macos_adds_to_a_zip_is_no_class(tmp_path: Path) -> None:
    files = {"cat/1.jpg": b"1", "dog/2.jpg": b"2", "__MACOSX/": b"", "__MACOSX/cat/._1.jpg": b"x"}
    (tmp_path / "t.zip").write_bytes(zip_of(files))
    assert list(packed(tmp_path / "t.zip", tmp_path / "out", "--classes", "sorted")) == ["cat/1", "dog/2"]
