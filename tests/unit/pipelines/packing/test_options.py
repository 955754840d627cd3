"""jobs.pack_shards: what its options say counts, and a dry run answers as the run would."""

from pathlib import Path

import pytest

from jobs import pack_shards


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """The exit code, and what was said on standard error."""
    return pack_shards.main(list(argv)), capsys.readouterr().err


def images(folder: Path) -> str:
    for name in ("cat/1.jpg", "dog/2.jpg"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(name.encode())
    return str(folder)


@pytest.mark.parametrize("text", ["", " "])
@pytest.mark.parametrize("option", ["--images", "--keys", "--output", "--labels", "--classes", "--devkit"])
def test_an_option_of_no_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, text: str
) -> None:
    given = {"--images": images(tmp_path / "in"), "--output": f"{tmp_path}/out", option: text}
    code, said = run(capsys, *[word for pair in given.items() for word in pair])
    assert (code, said.count("\n")) == (2, 1)
    assert f"{option} is empty" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_a_dry_run_refuses_what_the_run_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], complete: bool, form: str
) -> None:
    for order in ("cat dog", "dog cat"):
        (tmp_path / order[:3]).write_text(order.replace(" ", "\n"))
    options = ["--images", images(tmp_path / "in"), "--output", f"{tmp_path}/out", "--format", form, "--classes"]
    assert run(capsys, *options, f"{tmp_path}/cat")[0] == 0
    if not complete:
        (tmp_path / "out/manifest.json").unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert run(capsys, *options, f"{tmp_path}/cat", "--dry-run")[0] == 0
    dry, real = (run(capsys, *options, f"{tmp_path}/dog", *more) for more in (("--dry-run",), ()))
    assert dry == real
    assert dry[0] == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
