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
