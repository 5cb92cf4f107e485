"""The command line: answers at once, and every error of a user ends in one line with status 2."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_transfer.cli import COMMANDS, main
from nnunet_transfer.commands import env
from nnunet_transfer.discovery import __path__ as discovery_path
from nnunet_transfer.discovery import search_path
from nnunet_transfer.errors import TransferError

COMMAND = [sys.executable, "-m", "nnunet_transfer.cli"]
#: seconds; a person takes this for an immediate answer
HELP_LIMIT = 0.3


def _one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        start = os.times()
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True)
        end = os.times()
        return end.children_user + end.children_system - start.children_user - start.children_system

    # of the processor's time, which other load lengthens little; the best of several
    assert min(seconds() for _ in range(4)) < HELP_LIMIT


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    listed = capsys.readouterr().out
    assert all(f"  {command} " in listed for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: nnunet_transfer {command}" in capsys.readouterr().out


@pytest.mark.parametrize(("typed", "meant"), [("compar", "compare"), ("docter", "doctor"), ("source", "sources")])
def test_a_misspelt_command_gets_a_suggestion(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([typed])
    assert ended.value.code == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["sources", "list"],
        ["sources", "show", "t1_segmentation"],
        ["plan", "-d", "1", "--profile", "demo"],
        ["compare", "-d", "1", "-o", "report"],
    ],
    ids=lambda a: a[0],
)
def test_missing_nnunet_variables_end_in_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_sources"):
        monkeypatch.delenv(variable, raising=False)
    assert main(arguments) == 2
    assert "is not set; export nnUNet_raw" in _one_line(capsys.readouterr().err)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_missing_variables_leave_no_traceback_in_a_shell(tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("nnUNet_")}
    run = subprocess.run([*COMMAND, "sources", "list"], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stdout == ""
    assert _one_line(run.stderr).startswith("nnunet_transfer sources: nnUNet_results is not set")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--debug", "trainers", "nothing"],
        ["trainers", "nothing", "--debug"],
        ["sources", "show", "nothing", "--debug"],
        ["sources", "--debug", "show", "nothing"],
        ["study", "check", "nothing.yaml", "--debug"],
    ],
)
def test_debug_shows_the_traceback(arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TransferError, match="nothing"):
        main(arguments)


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permission"),
        (errno.EROFS, "read-only"),
    ],
)
def test_faults_of_the_disk_end_in_one_line(
    number: int, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # a copy that fails names its source, too
    for names in (("/data/x.json",), ("/source/x.json", None, "/data/x.json")):

        def run(args: object, names: tuple[object, ...] = names) -> int:
            raise OSError(number, os.strerror(number), *names)

        monkeypatch.setattr(env, "run", run)
        assert main(["env"]) == 2
        line = _one_line(capsys.readouterr().err)
        assert line.startswith("nnunet_transfer env: /data/x.json: ")
        assert what in line


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: object) -> int:
        raise KeyError("a bug")

    monkeypatch.setattr(env, "run", run)
    with pytest.raises(KeyError):
        main(["env"])


def test_an_interrupt_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(env, "run", run)
    assert main(["env"]) == 130
    assert "interrupted" in _one_line(capsys.readouterr().err)


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        run = subprocess.run([*COMMAND, "trainers"], stdout=writing, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert (run.returncode, run.stderr) == (0, "")


#: shell -> its command, and what a user types to set the variable and see it
SHELL_SCRIPTS = {
    "sh": ("sh", 'eval "$({env})"; printenv nnUNet_extTrainer'),
    "csh": ("tcsh -f", "eval `{env}`\nprintenv nnUNet_extTrainer"),
    "fish": ("fish --no-config", "{env} | source; printenv nnUNet_extTrainer"),
    "powershell": ("pwsh -NoProfile", "{env} | Invoke-Expression; $env:nnUNet_extTrainer"),
}


@pytest.mark.parametrize("shell", SHELL_SCRIPTS)
def test_env_is_understood_by_the_shell(shell: str, tmp_path: Path) -> None:
    program, script = SHELL_SCRIPTS[shell]
    if shutil.which(program.split()[0]) is None:
        pytest.skip(f"{program.split()[0]} is not installed")
    users = tmp_path / "it's a lab's; $HOME \\ wow!x"
    users.mkdir()
    before = os.pathsep.join([str(users), discovery_path[0], f"{users}/"])
    script = script.format(env=f"{sys.executable} -m nnunet_transfer.cli env --shell {shell}")
    run = subprocess.run(
        [*program.split(), "-c", script],
        env=os.environ | {"nnUNet_extTrainer": before},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip().split(os.pathsep) == [discovery_path[0], str(users)]


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("sh", "export nnUNet_extTrainer='{ours}:/it'\"'\"'s \\ wow!'"),
        ("csh", "setenv nnUNet_extTrainer '{ours}:/it'\"'\"'s \\ wow\\!'"),
        ("fish", "set -gx nnUNet_extTrainer '{ours}:/it\\'s \\\\ wow!'"),
        ("powershell", "$env:nnUNet_extTrainer = '{ours}:/it''s \\ wow!'"),
    ],
)
def test_env_quotes_as_the_shell_does(
    shell: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", "/it's \\ wow!")
    assert main(["env", "--shell", shell]) == 0
    assert capsys.readouterr().out == line.format(ours=discovery_path[0]) + "\n"


@pytest.mark.parametrize("present", ["", os.pathsep, "/a", f"/a{os.pathsep}/b{os.pathsep}/a"])
def test_the_search_path_starts_with_this_package_and_repeats_nothing(present: str) -> None:
    folders = search_path(present).split(os.pathsep)
    assert folders[0] == discovery_path[0]
    assert len(set(folders)) == len(folders)
    assert set(filter(None, present.split(os.pathsep))) <= set(folders)
    assert search_path(search_path(present)) == search_path(present)


def test_trainers_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    from nnunet_transfer.naming import GRAMMAR, bases
    from nnunet_transfer.recipes import RECIPES

    assert main(["trainers"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in (*bases(), *RECIPES))
    assert GRAMMAR in listed


def test_trainers_explains_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainers", "nnUNetTrainerT1Segmentation_sawtooth_encoderOnly_5cases_40epochs_seed3"]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    assert shown["source"] == "t1_segmentation"
    assert shown["loads"].startswith("encoder;")
    assert shown["cases"] == "5 training cases"
    assert shown["epochs"] == "40"
    assert shown["iterations"].startswith("250 per epoch")
    assert shown["seed"] == "3"
    assert shown["phases"] == "decoder warm-up 0-0, decoder 1-1, whole warm-up 2-3, whole network 4-39 (epochs from 0)"


def test_trainers_explains_the_name_that_was_given_and_what_a_short_training_leaves_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "nnUNetTrainerScratch_fitted_5epochs"  # the same as without the recipe, but in a folder of its own
    assert main(["trainers", name]) == 0
    title, *rows = capsys.readouterr().out.splitlines()
    shown = dict(re.split("  +", line.strip(), maxsplit=1) for line in rows)
    assert title == name
    assert (shown["phases"], shown["left out"]) == ("whole network 0-4 (epochs from 0)", "warm-up: too few epochs")


def test_trainers_says_what_is_wrong_with_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainers", "nnUNetTrainerScratch", "nnUNetTrainerScratch_10epoch"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "did you mean _10epochs?" in _one_line(captured.err)


def test_trainers_states_the_defaults_of_nnunet() -> None:
    import inspect
    import re

    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_transfer.naming import NNUNET_EPOCHS, NNUNET_ITERATIONS

    source = inspect.getsource(nnUNetTrainer.__init__)
    assert re.search(rf"num_epochs = {NNUNET_EPOCHS}\b", source)
    assert re.search(rf"num_iterations_per_epoch = {NNUNET_ITERATIONS}\b", source)


def test_the_bare_command_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "compare" in capsys.readouterr().out


def test_the_version_names_the_commit_of_a_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert re.fullmatch(
        r"nnunet_transfer \d+\.\d+\.\d+( \(commit [0-9a-f]{12}(, changed)?\))?\n", capsys.readouterr().out
    )


def test_shells_complete_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for name in (*COMMANDS, "init", "--all-cases", "--smoke"):
        assert name in script
    assert re.search(r"_convert_option_strings=\(.*--debug\b", script)
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
