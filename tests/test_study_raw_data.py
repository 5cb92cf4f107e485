"""Raw data sets that a study takes as they are: what its check and its first step say of beginners' mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.study import read_study
from tests.nnunet_data import write_blob_dataset
from tests.study_files import set_, write_study

Spoil = Callable[[Path], Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A study of a raw data set of six cases."""
    file = write_study(tmp_path, set_("datasets", "stroke", to={"id": 711}))
    write_blob_dataset(read_study(file).folders["nnUNet_raw"], 711, cases=6, shape=(24, 24, 6))
    return file


@pytest.fixture
def folder(file: Path) -> Path:
    """The data set's folder."""
    return next(read_study(file).folders["nnUNet_raw"].glob("Dataset711_*"))


def described(**entries: Any) -> Spoil:
    """Return a change of dataset.json."""
    return lambda folder: write_json(folder / "dataset.json", read_json(folder / "dataset.json") | entries)


def check(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = main(["study", "check", str(file)])
    return status, capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "dataset.json").write_text('{"labels": {"background": 0,}}'), "not valid JSON"),
        (described(labels=None), "lacks labels"),
        (described(labels={"0": "background", "1": "lesion"}), '"background": 0'),
        (described(labels={"background": 0, "lesion": 255}), "values are 0, 255; nnU-Net needs 0, 1, 2"),
        (described(labels={"background": 0, "lesion": "one"}), "a whole number for every name"),
        (described(labels={"background": 0, "ignore": 1, "lesion": 2}), "ignore must be the highest"),
        (described(file_ending=".nii"), "no training cases; look for *_0000.nii in imagesTr"),
        (lambda f: (f / "labelsTr/case02.nii.gz").unlink(), "labelsTr/case02.nii.gz does not exist"),
        (described(channel_names={"0": "T1", "1": "FLAIR"}), "case00_0001.nii.gz does not exist"),
    ],
)
def test_what_would_end_the_first_steps_is_an_error(
    spoil: Spoil, message: str, file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(file, capsys)[0] == 0
    spoil(folder)
    status, text = check(file, capsys)
    assert status == 1
    assert message in next(line for line in text.splitlines() if line.startswith("error: "))
    assert text.splitlines()[-1] == "1 error: fix the file first"


def test_cases_that_would_be_left_out_are_named(file: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "imagesTr/case02_0000.nii.gz").unlink()
    status, text = check(file, capsys)
    assert status == 0
    assert "states 6 training cases, but there are 5" in text
    assert "labels without images, which are left out: case02.nii.gz" in text


def test_regions_and_ignored_voxels_are_right(file: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described(labels={"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, regions_class_order=[1, 2])(folder)
    status, text = check(file, capsys)
    assert status == 0
    assert "labels" not in text


def rewritten(array: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Return a change of a case's label."""

    def spoil(folder: Path) -> None:
        path = folder / "labelsTr/case02.nii.gz"
        image = nib.load(path)
        nib.save(nib.Nifti1Image(array(np.asarray(image.dataobj)).astype(np.uint8), image.affine), path)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (rewritten(lambda label: 255 * label), "Unexpected labels found"),
        (rewritten(lambda label: label[:-1]), "Shape mismatch between segmentation and corresponding images"),
        (lambda f: (f / "imagesTr/case02_0000.nii.gz").write_bytes(b"damaged"), "can't be read"),
    ],
)
def test_the_first_step_looks_into_the_files(
    spoil: Spoil, message: str, file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(folder)
    assert main(["study", "step", str(file), "convert-stroke"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("nnunet_transfer study: case case02 of Dataset711_Blobs")
    assert message in error
