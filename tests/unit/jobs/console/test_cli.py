"""Covers jobs.console.cli: the config file, the command line over it, unknown keys, errors in one line, exit codes."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

import zoo
from jobs.console import cli
from pipelines import storage


@dataclass(frozen=True, kw_only=True)
class Config(cli.Job):
    """A job of the tests."""

    data: tuple[str, ...] = ()
    """Where."""
    batch_size: int | None = None
    """How many."""
    dry_run: bool = False
    """Whether."""


def write(folder: Path, text: str) -> list[str]:
    (folder / "job.yaml").write_text(text)
    return ["--config", str(folder / "job.yaml")]


def test_the_file_gives_options_and_the_command_line_overrides_them(tmp_path) -> None:
    flags = write(tmp_path, "data: [a, b]\nbatch_size: 8\ndry-run: true\n")
    assert cli.parse(Config, flags) == Config(config=flags[1], data=("a", "b"), batch_size=8, dry_run=True)
    overridden = cli.parse(Config, [*flags, "--batch-size", "16", "--no-dry-run", "--data", "c"])
    assert (overridden.batch_size, overridden.dry_run, overridden.data) == (16, False, ("c",))


def test_null_and_false_in_the_file_mean_none_and_false(tmp_path) -> None:
    parsed = cli.parse(Config, write(tmp_path, "batch_size: null\ndata: null\ndry_run: false\n"))
    assert (parsed.batch_size, parsed.data, parsed.dry_run) == (None, (), False)


def test_an_unknown_key_names_itself_and_the_nearest(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"unknown option 'batchsize'; did you mean 'batch_size'\?"):
        cli.parse(Config, write(tmp_path, "batchsize: 3\n"))


def test_a_file_that_is_no_yaml_is_refused_by_name(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"job\.yaml is not valid YAML"):
        cli.parse(Config, write(tmp_path, "data: [a\n"))


def test_a_file_without_options_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="expected `option: value` lines, found str"):
        cli.parse(Config, write(tmp_path, "just text\n"))


@pytest.mark.parametrize("arguments", [["--batch-size", "many"], ["--bach-size", "3"]])
def test_a_wrong_option_exits_with_2(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.parse(Config, arguments)
    assert stopped.value.code == cli.BAD_ARGUMENTS
    assert "batch-size" in capsys.readouterr().err


@dataclass(frozen=True, kw_only=True)
class OneDecoder(Config):
    """A job that takes one value of an option that is a list elsewhere."""

    decoder: tuple[str] = ("exact",)
    """Which."""


def test_an_option_of_one_value_names_itself_and_all_that_were_given(tmp_path) -> None:
    assert cli.parse(OneDecoder, ["--decoder", "fast", "--data", "a", "b"]).decoder == ("fast",)
    assert cli.parse(OneDecoder, write(tmp_path, "decoder: [fast]\n")).decoder == ("fast",)
    for arguments in (["--decoder", "exact", "fast"], write(tmp_path, "decoder: [exact, fast]\n")):
        with pytest.raises(ValueError, match="--decoder exact fast: this job takes one value"):
            cli.parse(OneDecoder, arguments)


def test_a_file_for_several_jobs_may_list_values_where_the_command_line_gives_one(tmp_path) -> None:
    flags = write(tmp_path, "decoder: [exact, fast]\ndata: [a]\n")
    for override in (["--decoder", "fast"], ["--decoder=fast"]):
        parsed = cli.parse(OneDecoder, [*flags, *override])
        assert (parsed.decoder, parsed.data) == (("fast",), ("a",))


def test_help_after_an_option_of_one_value_is_not_taken_for_a_second_value() -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.parse(OneDecoder, ["--decoder", "fast", "-h"])
    assert stopped.value.code == cli.DONE


@pytest.mark.parametrize("run", [lambda _: zoo.card("x"), lambda _: storage.read("nowhere.bin")])
def test_what_the_user_gave_wrong_is_one_line_and_2(run, capsys) -> None:
    assert cli.run_job(Config, run, []) == cli.BAD_ARGUMENTS
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_a_missing_config_file_is_one_line_and_2(capsys) -> None:
    assert cli.run_job(Config, lambda _: 0, ["--config", "nowhere.yaml"]) == cli.BAD_ARGUMENTS
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("bug", [lambda _: json.loads("{"), lambda _: cli.parse(None)])
def test_our_own_bugs_are_not_dressed_up_as_the_users(bug) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        cli.run_job(Config, bug, [])


def test_every_option_is_explained_in_help(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.parse(Config, ["--help"])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("--data", "Where.", "--batch-size", "How many.", "--config", "overrides it"))
