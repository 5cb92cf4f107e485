"""Whose scans they are and where they come from: longitudinal streams of FreeSurfer, the metadata of ATLAS."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from tests import conversion_trees as trees
from tests.conversion_commands import OUT, convert, rows
from tests.conversion_trees import Files, image, stripes


def subjects_dir(*names: str) -> Files:
    """Return a SUBJECTS_DIR with these folders."""
    files: Files = {}
    for i, name in enumerate(names):
        files[f"subjects/{name}/mri/orig.mgz"] = image(i, dtype=np.uint8)
        files[f"subjects/{name}/mri/aseg.mgz"] = stripes(2, 41, 17, dtype=np.int32)
    return files


def people(folders: Path) -> set[frozenset[str]]:
    """Return the folders of each subject in the manifest."""
    found: dict[str, set[str]] = defaultdict(set)
    for case, row in rows(folders).items():
        found[row["subject"]].add(row["source_name"] or case)
    return {frozenset(names) for names in found.values()}


@pytest.mark.parametrize(
    ("one", "others"),
    [
        (("P01_a", "P01_b", "P01", "P01_a.long.P01", "P01_b.long.P01"), ("P02_a", "P03")),
        (("visit7", "visit9", "sub-anna", "visit7.long.sub-anna", "visit9.long.sub-anna"), ("berta",)),
        (("sub-01_ses-1", "sub-01_ses-2", "sub-01", "sub-01_ses-1.long.sub-01"), ("sub-02_ses-1",)),
        (("sub-01_ses-1", "sub-01_ses-2", "sub-01_all", "sub-01_ses-1.long.sub-01_all"), ("sub-02",)),
        (("P1_a", "first", "second", "P1_a.long.first", "P1_a.long.second"), ("P2",)),
    ],
)
def test_time_points_and_their_template_are_of_one_person(
    one: tuple[str, ...], others: tuple[str, ...], nnunet_folders: Path
) -> None:
    assert convert(nnunet_folders, "freesurfer", subjects_dir(*one, *others)) == 0
    assert people(nnunet_folders) == {frozenset(one), *(frozenset([name]) for name in others)}
    folds = json.loads((nnunet_folders / f"raw/{OUT}/splits_final.json").read_text())
    assert sorted(len(fold["val"]) for fold in folds) == sorted([len(one), *(1 for _ in others)])


def test_folders_that_are_no_cases_tell_who_belongs_together(nnunet_folders: Path) -> None:
    files = subjects_dir("a", "b", "c")
    # of another channel
    files |= {f"subjects/{point}.long.base/mri/norm.mgz": image(9, dtype=np.uint8) for point in ("a", "b")}
    assert convert(nnunet_folders, "freesurfer", files) == 0
    assert people(nnunet_folders) == {frozenset("ab"), frozenset("c")}


def test_what_freesurfer_brings_along_is_no_subject(nnunet_folders: Path) -> None:
    brought = ("bert", "fsaverage", "fsaverage5", "fsaverage_sym", "cvs_avg35_inMNI152", "V1_average", "rh.EC_average")
    assert convert(nnunet_folders, "freesurfer", subjects_dir("anna", "berta", *brought)) == 0
    assert people(nnunet_folders) == {frozenset(["anna"]), frozenset(["berta"])}


@pytest.mark.parametrize("unknown", ["NaN", "n/a", "NA", "-", "unknown", ""])
def test_an_unknown_site_is_no_site(unknown: str, nnunet_folders: Path) -> None:
    files = trees.atlas_r3()
    name = next(name for name in files if name.endswith("sub-r001s001_ses-1_metadata.csv"))
    files[name] = f"SESSION_ID,CHRONICITY,SITE\nses-1,{unknown},{unknown}\n"
    assert convert(nnunet_folders, "atlas_r3", files) == 0
    row = rows(nnunet_folders)["sub-r001s001_ses-1"]
    assert row["site"] == "R001"
    assert "site taken from the folder" in row["actions"]
    assert "chronicity" not in row["actions"]


@pytest.mark.parametrize(
    ("table", "site", "chronicity"),
    [
        ("SESSION_ID,CHRONICITY,SITE\nses-2,30,S02\nses-1,180,S01\n", "S01", "180"),
        ("SESSION_ID,CHRONICITY,SITE\nses-2,30,S02\n01,180,S01\n", "S01", "180"),
        ("SESSION_ID,CHRONICITY,SITE\nses-2,30,S02\nn/a,180,S03\n", "S03", "180"),
        ("CHRONICITY,SITE\n180,S03\n", "S03", "180"),
        ("SESSION_ID,CHRONICITY,SITE\nses-2,30,S02\n", "R001", ""),
    ],
)
def test_metadata_are_those_of_the_session(table: str, site: str, chronicity: str, nnunet_folders: Path) -> None:
    files = trees.atlas_r3()
    name = next(name for name in files if name.endswith("sub-r001s001_ses-1_metadata.csv"))
    assert convert(nnunet_folders, "atlas_r3", files | {name: table}) == 0
    row = rows(nnunet_folders)["sub-r001s001_ses-1"]
    assert row["site"] == site
    assert f"chronicity {chronicity}" in row["actions"] if chronicity else "chronicity" not in row["actions"]
