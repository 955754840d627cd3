"""Each example runs as its own command on a small store, and what it prints is what the library computes."""

import hashlib
import math
import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pyarrow.dataset
import pytest
from PIL import Image, ImageOps

import zoo
from jobs.quickstart import photographs
from tests.support.paths import ROOT
from zoo import imagenet

LITE0 = zoo.card("efficientnet_lite0")
SMALL = "lite0_at_96px"
CARD = f"""
Models:
- Name: {SMALL}
  Metadata:
    {{ID: efficientnet_lite0, Image Size: 96, Crop Pct: 0.875, Interpolation: bicubic, SHA-256: SHA256}}
  Weights: LOCATION
"""


def python(*arguments: object) -> str:
    """The standard output of this interpreter with `arguments`, run in the repository's root."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def filled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the cells of two models on 20 images: photographs, two variants of each, one broken file."""
    work = tmp_path_factory.mktemp("examples")
    put_images(work / "images")
    assert LITE0.weights is not None and LITE0.weights.sha256 is not None
    card = CARD.replace("LOCATION", LITE0.weights.location).replace("SHA256", LITE0.weights.sha256)
    (work / "card.yaml").write_text(card)
    images = ["--images", work / "images", "--labels", work / "images" / "labels.csv"]
    python("-m", "jobs.pack_shards", *images, "--output", work / "shards", "--samples-per-shard", 8)
    models = ["--models", f"{LITE0.name},{SMALL}", "--cards", work / "card.yaml", "--batch-size", 4]
    outputs = ["--store", work / "store", "--tracking-uri", "none"]
    python("-m", "jobs.evaluate", *models, "--data", work / "shards", *outputs)
    return work / "store"


def put_images(folder: Path) -> None:
    folder.mkdir()
    rows = []
    for photo in photographs.photos():
        picture = Image.open(photo.file).convert("RGB")
        variants = {"": picture, "-mirrored": ImageOps.mirror(picture), "-grey": ImageOps.grayscale(picture)}
        for suffix, variant in variants.items():
            encoded = BytesIO()
            variant.save(encoded, "PNG")
            (folder / f"{photo.file.stem}{suffix}.png").write_bytes(encoded.getvalue())
            rows.append((f"{photo.file.stem}{suffix}", photo.label))
    (folder / f"{rows.pop()[0]}.png").unlink()
    (folder / f"{rows[-1][0]}.png").write_bytes(b"no image")
    (folder / "labels.csv").write_text("key,label\n" + "".join(f"{key},{label}\n" for key, label in rows))


def judged(store: Path, model: str) -> dict[str, tuple[int, bool]]:
    """Each image's label and whether the model's first class is that, by key."""
    (folder,) = store.glob(f"cells/*/{model}-*")
    rows = pyarrow.dataset.dataset(folder).to_table().to_pylist()
    return {row["key"]: (row["label"], bool(row["classes"]) and row["classes"][0] == row["label"]) for row in rows}


def test_top1_by_class_is_that_of_the_cells(filled_store: Path) -> None:
    lines = python("examples/read_cells.py", filled_store).splitlines()
    found = [re.fullmatch(r"(\S+)-\w{8}-\w{8}  class +(\d+)  top-1 +([\d.]+) %  of (\d+) images", row) for row in lines]
    shown = {(row[1], int(row[2])): (float(row[3]), int(row[4])) for row in found if row}
    expected = {}
    for model in (LITE0.name, SMALL):
        by_class: dict[int, list[bool]] = {}
        for label, is_right in judged(filled_store, model).values():
            by_class.setdefault(label, []).append(is_right)
        expected |= {(model, c): (round(100 * sum(s) / len(s), 2), len(s)) for c, s in by_class.items()}
    assert (shown, len(lines)) == (expected, 14)
    assert sum(images for _, images in shown.values()) == 2 * 20


def test_flips_and_p_value_are_those_of_the_cells(filled_store: Path) -> None:
    shown = python("examples/compare_two_models.py", filled_store, LITE0.name, SMALL)
    a, b = judged(filled_store, LITE0.name), judged(filled_store, SMALL)
    lost, won = ([key for key in a if x[key][1] and not y[key][1]] for x, y in ((a, b), (b, a)))
    n, least = len(lost) + len(won), min(len(lost), len(won))
    assert lost
    p_value = min(1.0, 2 * sum(math.comb(n, k) for k in range(least + 1)) / 2**n)
    first, second, last = shown.splitlines()
    assert first == f"only {LITE0.name} is right: {', '.join(lost)}"
    assert second == f"only {SMALL} is right: {', '.join(won) or 'nowhere'}"
    right = [sum(is_right for _, is_right in each.values()) for each in (a, b)]
    assert last == f"top-1 {right[0]} and {right[1]} of 20, p = {p_value:.4f}"


def test_a_model_that_is_not_in_the_store_is_named_with_those_that_are(filled_store: Path) -> None:
    with pytest.raises(AssertionError, match=rf"mine has 0 folders of cells; expected one of {LITE0.name}-\w+-\w+, "):
        python("examples/compare_two_models.py", filled_store, "mine", SMALL)


def test_the_zoo_used_in_python_gives_the_probabilities_that_the_store_has(filled_store: Path) -> None:
    lines = python("examples/zoo_in_python.py").splitlines()
    assert lines[0].startswith(f"{len(zoo.names())} models, ")
    assert lines[1] == "efficientnet_lite0: 4,652,008 parameters, claims 75.1 % top-1 on ImageNet-1k validation"
    (folder,) = filled_store.glob(f"cells/*/{LITE0.name}-*")
    rows = pyarrow.dataset.dataset(folder).to_table().to_pylist()
    (row,) = (row for row in rows if row["key"] == "grace_hopper")
    shown = [(name, float(percent)) for percent, name in (line.strip().split(" %  ") for line in lines[2:])]
    assert [name for name, _ in shown] == [imagenet.class_names()[index] for index in row["classes"][:5]]
    assert [percent for _, percent in shown] == pytest.approx([100 * prob for prob in row["probs"][:5]], abs=0.006)


def test_an_architecture_of_ones_own_is_loaded_from_verified_weights(tmp_path: Path) -> None:
    first, second = python("examples/own_architecture.py", tmp_path).splitlines()
    (weights,) = tmp_path.glob("*.pth")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert weights.name == f"mean_colour-{digest[:8]}.pth"
    assert first == f"mean_colour_rgb: {3 * 3 + 3} parameters, weights {weights.name} verified"
    assert second == "classes of a red, a green and a blue image: 0 1 2"


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_says_how_to_run_it(example: Path) -> None:
    assert f"\n    python examples/{example.name}" in example.read_text().split('"""')[1]
