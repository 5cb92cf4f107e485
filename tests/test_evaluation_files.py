"""Scoring folders of masks: missing and hostile files, names, what is written, and several processes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.evaluation.folders import CASES_PER_PROCESS, EvaluateSettings, Task, evaluate_folders, run_tasks
from nnunet_transfer.evaluation.labels import LabelSet
from nnunet_transfer.evaluation.protocols import PRESETS
from nnunet_transfer.evaluation.scores import ScoringSettings
from tests.mask_files import write_mask, write_two_lesions
from tests.recorded.random_masks import random_pair


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".png"])
def test_two_dimensional_folders(ending: str, tmp_path: Path) -> None:
    reference, prediction = np.zeros((2, 20, 30), np.uint8)
    reference[2:8, 3:9] = 1
    prediction[2:8, 3:6] = 1
    write_mask(reference, tmp_path / f"ref/a{ending}")
    write_mask(prediction, tmp_path / f"pred/a{ending}")
    settings = EvaluateSettings(ScoringSettings((PRESETS["atlas_r2"],)))
    row = evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=settings).cases.iloc[0]
    assert row["dice"] == pytest.approx(2 * 18 / 54)
    assert row["atlas_r2_f1"] == 1


def test_missing_and_corrupt_cases_are_named_and_left_out_on_request(tmp_path: Path, capsys) -> None:
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[1, 1, 1] = 1
    for case in ("good", "lonely", "corrupt"):
        write_mask(mask, tmp_path / f"ref/{case}.nii.gz")
    write_mask(mask, tmp_path / "pred/good.nii.gz")
    write_mask(mask, tmp_path / "pred/extra.nii.gz")
    (tmp_path / "pred/corrupt.nii.gz").write_bytes(b"no image")
    command = ["evaluate", str(tmp_path / "ref"), str(tmp_path / "pred"), "-o", str(tmp_path / "cases.csv")]
    command += ["--labels", "1", "--processes", "1"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "lonely" in error
    assert "extra" in error
    assert "; give every case a mask in " in error
    assert not (tmp_path / "cases.csv").exists()
    assert main([*command, "--allow-missing"]) == 0
    begun = {line.split(":")[0] for line in capsys.readouterr().out.splitlines()}
    assert {"left out corrupt", "left out lonely", "left out extra", "mean over cases"} <= begun
    assert list(pd.read_csv(tmp_path / "cases.csv")["case"]) == ["good"]


def test_a_reference_that_can_not_be_read_is_left_out_though_its_labels_are_unknown(tmp_path: Path) -> None:
    for case, label in (("a", 1), ("b", 3)):
        write_mask(np.full((3, 3, 3), label), tmp_path / f"ref/{case}.nii.gz")
        write_mask(np.full((3, 3, 3), label), tmp_path / f"pred/{case}.nii.gz")
    for case in ("c", "d"):
        (tmp_path / f"ref/{case}.nii.gz").write_bytes(b"cut off")
        write_mask(np.ones((3, 3, 3)), tmp_path / f"pred/{case}.nii.gz")
    result = evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=EvaluateSettings(allow_missing=True))
    assert set(result.problems) == {"c", "d"}
    assert list(dict.fromkeys(result.cases["label"])) == ["1", "3"]
    # without the option, all of them are named
    with pytest.raises(ComparisonError, match=r"2 cases can't be scored: c: .*d: "):
        evaluate_folders(tmp_path / "ref", tmp_path / "pred")


def test_empty_folders_and_labels_outside_the_data_set_are_refused(tmp_path: Path) -> None:
    write_mask(np.full((3, 3, 3), 5), tmp_path / "ref/a.nii.gz")
    (tmp_path / "none").mkdir()
    with pytest.raises(ComparisonError, match="no masks"):
        evaluate_folders(tmp_path / "ref", tmp_path / "none")
    with pytest.raises(ComparisonError, match=r"a: the reference has label 5"):
        evaluate_folders(tmp_path / "ref", tmp_path / "ref", settings=EvaluateSettings(labels=(1, 2)))


def test_the_command_says_where_it_writes_the_lesions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_two_lesions(tmp_path)
    command = ["evaluate", *(str(tmp_path / name) for name in ("ref", "pred")), "-o", str(tmp_path / "o.csv")]
    assert main([*command, "--no-surface"]) == 0
    assert "lesions" not in capsys.readouterr().out
    assert not (tmp_path / "lesions.csv").exists()
    assert main([*command, "--no-surface", "--protocol", "msseg2016"]) == 0
    assert f"reference lesions in {tmp_path / 'lesions.csv'}" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "lesions.csv")
    assert list(table["label"]) == [1, 2]
    assert list(table["detected"]) == [True, False]
    assert list(table["volume_mm3"]) == pytest.approx([8 * 0.8 * 0.9 * 3.0] * 2)


def test_lesions_of_another_run_in_the_folder_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_two_lesions(tmp_path)
    ref, pred = str(tmp_path / "ref"), str(tmp_path / "pred")
    protocol = ["--protocol", "atlas_r2", "--no-surface"]

    def found(prediction: str, output: str, *more: str) -> str:
        assert main(["evaluate", ref, prediction, "-o", str(tmp_path / output), *more]) == 0
        return capsys.readouterr().out

    found(pred, "a.csv", *protocol)
    missed = (tmp_path / "lesions.csv").read_text()
    assert "b_lesions.csv" in found(ref, "b.csv", *protocol)
    assert (tmp_path / "lesions.csv").read_text() == missed
    assert list(pd.read_csv(tmp_path / "b_lesions.csv")["detected"]) == [True, True]
    # a run that is repeated replaces its own
    found(ref, "a.csv", *protocol)
    assert list(pd.read_csv(tmp_path / "lesions.csv")["detected"]) == [True, True]
    assert "b_lesions.csv" in found(pred, "b.csv", *protocol)
    assert (tmp_path / "b_lesions.csv").read_text() == missed
    # and doesn't leave those of an earlier table beside a new one
    assert "removed" in found(pred, "b.csv", "--no-surface")
    assert not (tmp_path / "b_lesions.csv").exists()


def test_endings_in_capitals_are_masks(tmp_path: Path) -> None:
    mask = np.arange(27).reshape(3, 3, 3) % 2
    for folder in ("ref", "pred"):
        for name in ("a.nii.gz", "b.nii.gz", "c.nrrd", "d.nii"):
            write_mask(mask, tmp_path / folder / name)
        for path in list((tmp_path / folder).glob("[b-d].*")):
            path.rename(path.with_name(path.name.upper()))
    table = evaluate_folders(tmp_path / "ref", tmp_path / "pred").cases
    assert dict(zip(table["case"], table["dice"], strict=True)) == dict.fromkeys(["B", "C", "D", "a"], 1.0)


def test_names_may_be_spelt_as_on_another_system(tmp_path: Path) -> None:
    mask = np.zeros((4, 20, 30), np.uint8)
    mask[1:3, 2:8, 3:9] = 1
    one, two = "M\u00fcller", "Mu\u0308ller"
    write_mask(mask, tmp_path / f"ref/{one}.nii.gz")
    write_mask(mask, tmp_path / f"pred/{two}.nii.gz")
    assert evaluate_folders(tmp_path / "ref", tmp_path / "pred").cases["dice"].tolist() == [1]
    write_mask(mask, tmp_path / f"pred/{one}.nii.gz")
    with pytest.raises(ComparisonError, match="in two spellings"):
        evaluate_folders(tmp_path / "ref", tmp_path / "pred")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "0", "1"], "label 0 can't be scored"),
        (["--labels", "1", "65536"], "label 65536 can't be scored"),
        (["--ignore-label", "-1"], "label -1 can't be"),
        (["--ignore-label", "1"], "no label is left to score"),
        (["--protocol", "atlas_r2", "-o", "{}/lesions.csv"], "give -o another name"),
        (["-o", "{}/ref"], "is a folder"),
        (["--protocol", "atlas_r2", "--protocol", "atlas_r2"], "given twice: atlas_r2"),
    ],
)
def test_what_can_not_be_scored_or_written_is_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("ref", "pred"):
        write_mask(np.arange(27).reshape(3, 3, 3) % 2, tmp_path / folder / "a.nii.gz")
    places = [str(tmp_path / name) for name in ("ref", "pred", "o.csv")]
    command = ["evaluate", *places[:2], "-o", places[2], *(o.format(tmp_path) for o in options)]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.csv"))


def test_processes_give_the_same_table_as_one(tmp_path: Path) -> None:
    for i in range(2 * CASES_PER_PROCESS):
        for folder, mask in zip(("ref", "pred"), random_pair(i), strict=True):
            write_mask(mask, tmp_path / folder / f"c{i:02d}.nii.gz")
    settings = EvaluateSettings(labels=(1,))
    tables = [
        evaluate_folders(tmp_path / "ref", tmp_path / "pred", settings=settings, processes=n).cases for n in (1, 2)
    ]
    pd.testing.assert_frame_equal(*tables)


class Deadly:
    """Ends the process that receives it."""

    def __reduce__(self) -> tuple:
        return os._exit, (1,)


def test_a_killed_process_is_one_line() -> None:
    task = Task("a", Deadly(), Path("a.nii.gz"), LabelSet(()), ScoringSettings())  # type: ignore[arg-type]
    with pytest.raises(ComparisonError, match="was killed, perhaps because memory ran out; run again with fewer"):
        list(run_tasks([task] * 2 * CASES_PER_PROCESS, 2))
