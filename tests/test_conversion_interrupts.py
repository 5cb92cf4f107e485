"""What an interrupted conversion leaves, and how the next one goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.conversion import workers
from nnunet_transfer.conversion.engine import convert
from nnunet_transfer.conversion.plan import Options, plan_conversion
from nnunet_transfer.errors import DataError
from nnunet_transfer.locks import is_locked
from tests import conversion_trees as trees
from tests.at_an_event.sitecustomize import environment as at_an_event
from tests.conversion_commands import case_r2
from tests.conversion_runs import CASES, contents, lab, run, write_cases
from tests.conversion_trees import box, image, write_tree


@pytest.fixture
def tree(nnunet_folders: Path) -> Path:
    """A tree of `CASES` cases laid out like ATLAS R2.0."""
    return write_cases(nnunet_folders / "source")


def interrupt_after(cases: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make conversion stop at a case, as Ctrl-C does; return the list that names of converted cases go to."""
    done: list[str] = []
    real = workers.convert_case

    def convert_case(case: Any, job: Any, state: str) -> Any:
        if len(done) == cases:
            # what a process that was killed leaves
            (job.out / f"imagesTr/.tmp1-{case.name}_0000.nii.gz").write_bytes(b"half")
            (job.out / f"labelsTr/{case.name}.nii.gz").write_bytes(b"no record of it")
            raise KeyboardInterrupt
        done.append(case.name)
        return real(case, job, state)

    monkeypatch.setattr(workers, "convert_case", convert_case)
    return done


def interrupted(cases: int, monkeypatch: pytest.MonkeyPatch, tree: Path, **options: Any) -> list[str]:
    """Convert a tree until it is interrupted at a case; return the names of the converted cases."""
    with monkeypatch.context() as patched:
        done = interrupt_after(cases, patched)
        with pytest.raises(KeyboardInterrupt):
            run(tree, **options)
    return done


@pytest.mark.parametrize("stop", range(CASES))
def test_an_interrupted_conversion_goes_on_where_it_stopped(
    stop: int, tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(run(tree).folder)
    shutil.rmtree(nnunet_folders / "raw" / "Dataset004_ATLASR2")
    first = interrupted(stop, monkeypatch, tree)
    # what nnU-Net would take for a data set isn't there
    assert not list((nnunet_folders / "raw").glob("Dataset*"))
    with monkeypatch.context() as patched:
        second = interrupt_after(CASES + 1, patched)
        outcome = run(tree)
    assert (len(first), len(second)) == (stop, CASES - stop)
    assert contents(outcome.folder) == whole
    assert [p.name for p in (nnunet_folders / "raw").iterdir()] == [outcome.folder.name]


def test_a_case_that_can_not_be_converted_costs_no_other(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = next(tree.rglob("sub-r001*mask.nii.gz"))
    stored = mask.read_bytes()
    trees.damage(mask, "truncated")
    command = ["convert", "atlas_r2", str(tree), "-d", "4", "--processes", "1"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "1 of 4 cases can't be converted" in error
    assert "finished cases are kept for the next run" in error
    assert not list((nnunet_folders / "raw").glob("Dataset*"))
    done = interrupt_after(CASES + 1, monkeypatch)
    mask.write_bytes(stored)
    assert main(command) == 0
    assert done == ["sub-r001_ses-1"]
    assert [p.name for p in (nnunet_folders / "raw").iterdir()] == ["Dataset004_ATLASR2"]


def test_what_names_tell_is_refused_before_the_first_case(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(2, monkeypatch, tree)
    next(tree.rglob("sub-r003*T1w.nii.gz")).unlink()
    with monkeypatch.context() as patched:
        done = interrupt_after(CASES, patched)
        with pytest.raises(DataError, match=r"1 of 4 cases can't be converted .*; correct them, or leave .*-skips$"):
            run(tree)
        assert not done
    # what was finished before is still there
    assert run(tree, allow_skips=True).converted == 1


def test_training_cases_that_all_fail_are_the_reason(tree: Path) -> None:
    for mask in tree.rglob("sub-*mask.nii.gz"):
        trees.damage(mask, "text")
    write_tree({k.replace("Training", "Testing"): v for k, v in case_r2(9, image(9)).items()}, tree)
    with pytest.raises(DataError, match=r"no case for training can be converted \(sub-r000_ses-1: .* is not a NIfTI"):
        run(tree, allow_skips=True)


def test_an_unreadable_record_is_converted_again_or_named(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(2, monkeypatch, tree)
    journal = nnunet_folders / "raw/.making-Dataset004_ATLASR2/conversion_records.jsonl"
    # a column that was renamed since
    journal.write_text(journal.read_text().replace('"dtype"', '"stored_as"'))
    outcome = run(tree)
    assert outcome.converted == CASES
    journal = outcome.folder / journal.name
    journal.write_text(journal.read_text().replace("{", "", 1))
    with pytest.raises(
        DataError, match=r"conversion_records.jsonl is damaged, or of another version; give --overwrite"
    ):
        run(tree)


@pytest.mark.parametrize("interrupted", [False, True])
def test_classes_in_another_order_are_other_labels(
    interrupted: bool, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: trees.Files = {}
    for i in range(CASES):
        files |= {f"p{i}/t1.nii.gz": image(i), f"p{i}/tissues.nii.gz": trees.stripes(0, 2, 3)}
    root = write_tree(files, nnunet_folders / "source")
    first, other = lab({"grey": 2, "white": 3}), lab({"white": 3, "grey": 2})
    with monkeypatch.context() as patched:
        if interrupted:
            interrupt_after(2, patched)
        with pytest.raises(KeyboardInterrupt) if interrupted else contextlib.nullcontext():
            convert(plan_conversion(first, root, 4, Options()))
    if not interrupted:
        with pytest.raises(DataError, match="exists and differs from what this command makes"):
            convert(plan_conversion(other, root, 4, Options()))
    outcome = convert(plan_conversion(other, root, 4, Options(overwrite=not interrupted)))
    assert outcome.converted == CASES
    assert json.loads((outcome.folder / "dataset.json").read_text())["labels"]["white"] == 1
    stored = np.asarray(nib.load(root / "p0/tissues.nii.gz").dataobj)
    for path in (outcome.folder / "labelsTr").iterdir():
        assert np.array_equal(np.asarray(nib.load(path).dataobj) == 1, stored == 3), path.name


def has_stopped_child(pid: int) -> bool:
    """Whether a process below this one has been stopped by a signal."""
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_STOPPED:
                return True
    return False


@pytest.mark.parametrize(
    ("end", "kill"), [(signal.SIGINT, os.killpg), (signal.SIGKILL, os.killpg), (signal.SIGTERM, os.kill)]
)
def test_a_conversion_ended_from_outside_goes_on(
    end: signal.Signals, kill: Callable[[int, int], None], nnunet_folders: Path
) -> None:
    cases = 8
    files: trees.Files = {}
    for i in range(cases):
        files |= case_r2(i, image(i), box())
    root = write_tree(files, nnunet_folders / "source")
    command = [*(sys.executable, "-m", "nnunet_transfer.cli", "convert", "atlas_r2", str(root))]
    command += ["-d", "4", "--processes", "2"]
    # the sixth case stops in its middle, and so the conversion can't be over too soon
    stopped = at_an_event("*/imagesTr/*r005_ses-1_0000.nii.gz", signal.SIGSTOP)
    started = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ | stopped
    )
    journal = nnunet_folders / "raw/.making-Dataset004_ATLASR2/conversion_records.jsonl"
    # a worker that has yet to stop would do so after the signals, with nobody to wake it
    while not (journal.is_file() and journal.read_text().count("\n") > 3 and has_stopped_child(started.pid)):
        assert started.poll() is None
        time.sleep(0.01)
    # Ctrl-C and the kernel end the workers, too; `kill PID` and a scheduler may end the parent alone
    kill(started.pid, end)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGCONT)
    _, error = started.communicate(timeout=60)  # which waits for the workers, too
    if end == signal.SIGINT:
        assert started.returncode == 130
        assert "Traceback" not in error
        assert error.splitlines()[-1] == "nnunet_transfer convert: interrupted"
    end_of_workers = time.monotonic() + 20
    while is_locked(nnunet_folders / "raw/.lock-Dataset004"):
        assert time.monotonic() < end_of_workers, "a worker outlives the conversion and holds its lock"
        time.sleep(0.01)
    done = journal.read_text().count("\n")
    assert 3 < done < cases
    outcome = run(root, processes=2)
    assert outcome.converted == cases - done
    assert [p.name for p in (nnunet_folders / "raw").iterdir()] == ["Dataset004_ATLASR2"]
    assert {len(list((outcome.folder / part).iterdir())) for part in ("imagesTr", "labelsTr")} == {cases}


def test_a_worker_that_is_ended_is_reported_and_the_rest_kept(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(workers, "convert_case", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert main(["convert", "atlas_r2", str(tree), "-d", "4", "--processes", "2"]) == 2
    assert "a worker process was killed" in capsys.readouterr().err
    assert run(tree).converted == CASES


def test_what_an_interrupted_conversion_with_other_options_left_is_not_used(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(2, monkeypatch, tree, reorient="RAS")
    outcome = run(tree)
    assert outcome.converted == CASES
    assert {record.written_orientation for record in outcome.records} == {"LPS"}


def test_the_old_data_set_stays_until_the_new_one_is_complete(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run(tree).folder)
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(tree, overwrite=True, folds=2)
    assert contents(nnunet_folders / "raw/Dataset004_ATLASR2") == before


def test_a_full_disk_leaves_no_data_set(
    tree: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    with monkeypatch.context() as patched:
        patched.setattr("nnunet_transfer.conversion.tables.write_manifest", full)
        assert main(["convert", "atlas_r2", str(tree), "-d", "4", "--processes", "1"]) == 2
    assert "no space left on the disk" in capsys.readouterr().err
    assert not list((nnunet_folders / "raw").glob("Dataset*"))
    # the cases are done; only the tables are left to write
    assert (run(tree).converted, run(tree).unchanged) == (0, True)
    assert (nnunet_folders / "raw/Dataset004_ATLASR2/conversion_manifest.csv").is_file()
