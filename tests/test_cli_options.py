"""Options that are misspelt or would have no effect end in one line that says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_transfer.cli import main


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("convert atlas_r2 x -d 4 --chanels T1", "--chanels T1; did you mean --channels?"),
        ("sources add x --name y --licens MIT", "--licens MIT; did you mean --licence?"),
        ("study run --smok3", "--smok3; did you mean --smoke?"),
        ("convert atlas_r2 x -d four", "invalid int value: 'four'"),
        ("evaluate a b -o c.csv --empty leave", "choose from 'score', 'leave-out') (see"),
        ("compare -o report", "required: -d/--dataset"),
        ("sources ad x", "invalid choice: 'ad'"),
        ("nothing", "unknown command nothing"),
    ],
)
def test_wrong_arguments_end_in_one_line(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("nnunet_transfer")
    assert said in message
    assert " --help`)" in message


@pytest.mark.parametrize(
    "line",
    [
        "convert atlas_r2 UNSET -d 4",
        "compare -d 1 -o UNSET",
        "evaluate masks UNSET -o c.csv",
        "export-stock model -o UNSET",
        "sources inspect UNSET",
        "sources publish mine UNSET",
        "study run UNSET",
        "synthesize UNSET -d 4",
    ],
)
def test_an_empty_path_is_not_the_working_folder(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([word.replace("UNSET", "") for word in line.split()])
    assert ended.value.code == 2
    assert "the text is empty, as if a variable" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("convert --list atlas_r2 data -d 4", "--list converts nothing"),
        ("convert --list --channels T1", "--list converts nothing"),
        ("study run --slurm-profile slurm --smoke", "--slurm-profile writes a profile and runs nothing"),
        ("study run --slurm-profile slurm --jobs 5", "give it without other options"),
        ("sources fetch --save-as mine", "go with the name"),
        ("sources fetch --overwrite", "go with the name"),
        ("sources fetch imagenet_resnet18d --json", "leave out the name"),
        ("evaluate a b -o c.csv --no-surface --tolerance 2", "which --no-surface leaves out"),
        ("evaluate a b -o .", "is a folder; give -o the name of a file"),
        ("sources rank -d 1 -c 2d -p plans -o .", "is a folder; give -o the name of a file"),
        ("evaluate a b -o c.csv --processes 0", "--processes is 0; give 1 or more"),
        ("compare -d 1 -o report --no-surface --tolerance 2", "which --no-surface leaves out"),
    ],
)
def test_an_option_without_effect_is_refused(
    line: str, said: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_the_list_shows_the_data_set_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--list", "atlas_r2"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("atlas_r2: ")
    assert "\n\n" not in shown
