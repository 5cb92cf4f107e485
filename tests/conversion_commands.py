"""Converting a small tree by the command, and reading what it wrote."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from nnunet_transfer.cli import main
from tests.conversion_trees import Files, box, image, write_tree

OUT = "Dataset004_Test"


def convert(folders: Path, dataset: str, files: Files, *options: str) -> int:
    """Write a tree beside nnU-Net's folders and convert it; return the exit status."""
    root = write_tree(files, folders / "source")
    return main(["convert", dataset, str(root), "-d", "4", "--name", "Test", "--processes", "1", *options])


def label(folders: Path, case: str) -> NDArray[Any]:
    """Return the voxels of a written label."""
    return np.asarray(nib.load(folders / f"raw/{OUT}/labelsTr/{case}.nii.gz").dataobj)


def rows(folders: Path, table: str = "conversion_manifest") -> dict[str, dict[str, str]]:
    """Return the rows of a table by case."""
    with open(folders / f"raw/{OUT}/{table}.csv", newline="", encoding="utf-8") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


def refusal(folders: Path, capsys: pytest.CaptureFixture[str], dataset: str, files: Files, *options: str) -> str:
    """Convert, expect one line of error and no data set; return the line."""
    capsys.readouterr()
    assert convert(folders, dataset, files, *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("nnunet_transfer convert: ")
    assert not list((folders / "raw").glob("[!.]*"))
    return error


def case_r2(number: int, data: Any, mask: Any = None) -> Files:
    """Return the files of one ATLAS R2.0 case."""
    stem = f"Training/R001/sub-r{number:03d}/ses-1/anat/sub-r{number:03d}_ses-1_space-MNI152NLin2009aSym"
    files = {f"{stem}_T1w.nii.gz": data}
    return files if mask is None else files | {f"{stem}_label-L_desc-T1lesion_mask.nii.gz": mask}


GOOD = case_r2(1, image(1), box()) | case_r2(2, image(2), box(1, 4, 3))
GOOD_SECOND = case_r2(2, image(2), box())
