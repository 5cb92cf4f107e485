"""Which files a conversion finds: behind links into stores, in layouts that share patterns, under names of any bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.conversion import workers
from nnunet_transfer.files import parse_json, read_json
from tests import conversion_trees as trees
from tests.conversion_commands import OUT, convert, rows
from tests.conversion_trees import box, image, save

# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [".store", "sourcedata/site1", "raw/.all/sourcedata"])
def test_links_into_a_store_are_followed(store: str, nnunet_folders: Path) -> None:
    root, outside = nnunet_folders / "source", nnunet_folders / "outside"
    save(image(1), root / "sub-01/anat/sub-01_T1w.nii.gz")
    save(image(3), root / store / "sub-03/anat/sub-03_T1w.nii.gz")
    save(image(4), outside / "sub-04/anat/sub-04_T1w.nii.gz")
    save(image(5), root / store / "sub-05/anat/sub-05_T1w.nii.gz")
    (root / store / "sub-04").symlink_to(outside / "sub-04")
    (root / store / "around").symlink_to(root)
    (root / store / "sub-03" / "again").symlink_to(root / store / "sub-03")
    for subject in ("sub-03", "sub-04"):
        (root / subject).symlink_to(Path(store) / subject)
    assert convert(nnunet_folders, "t1_bids", {}) == 0
    # nothing links to the fifth
    assert set(rows(nnunet_folders)) == {"sub-01", "sub-03", "sub-04"}
    listed = (nnunet_folders / f"raw/{OUT}/conversion_left_out.csv").read_text()
    assert f"{store}/sub-03/,folder that is searched as sub-03\n" in listed
    assert f"{store}/sub-04/,link to a folder that is searched as sub-04\n" in listed
    assert f"{store}/sub-05/anat/sub-05_T1w.nii.gz," in listed
    assert f"{store}/around/,link to a folder that is searched as .\n" in listed
    assert "sub-03/again/,link to a folder that is searched as sub-03\n" in listed


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_a_layout_with_the_same_masks_and_other_images_is_tried(nnunet_folders: Path) -> None:
    files = {
        name.replace("reg_", ""): data
        for name, data in trees.mrbrains18().items()
        if not name.endswith("pre/T1.nii.gz")
    }
    assert convert(nnunet_folders, "mrbrains18", files, "--channels", "T1", "T1-IR") == 0
    assert {row["split"] for row in rows(nnunet_folders).values()} == {"train"}
    assert set(rows(nnunet_folders)) == {"1", "4", "070"}


@pytest.mark.parametrize("folder", ["derivatives/lesions/", "derivatives/", ""])
def test_a_layout_with_the_same_images_and_other_masks_is_tried(folder: str, nnunet_folders: Path) -> None:
    files: trees.Files = {}
    for i in (1, 2, 3):
        files[f"ds007212/sub-{i:03d}/anat/sub-{i:03d}_T1w.nii.gz"] = image(i)
        if i < 3:
            files[f"ds007212/{folder}sub-{i:03d}/anat/sub-{i:03d}_label-lesion_mask.nii.gz"] = box()
    assert convert(nnunet_folders, "ds007212", files) == 0
    splits = {case: row["split"] for case, row in rows(nnunet_folders).items()}
    assert splits == {"sub-001": "train", "sub-002": "train", "sub-003": "test"}
