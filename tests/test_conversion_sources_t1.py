"""The sources of T1 images without masks: subjects, classes and tables, from miniature trees with their traps."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import pytest

from tests import conversion_trees as trees
from tests.source_trees import bids_tree, convert, names, refused, table


@pytest.fixture
def root(nnunet_folders: Path) -> Path:
    """Where the tree goes."""
    folder = nnunet_folders / "source"
    folder.mkdir()
    return folder


def test_bids_takes_classes_from_participants(root: Path) -> None:
    bids_tree(root)
    folder = convert("t1_bids", root, "--option", "class=sex")
    classes = {row["case"]: row["class"] for row in table(folder / "classes.csv")}
    assert classes == {"sub-01_ses-1": "F", "sub-01_ses-2": "F", "sub-02_run-02": "M", "sub-03": "F"}
    for fold in json.loads((folder / "splits_final.json").read_text()):
        assert not {case[:6] for case in fold["train"]} & {case[:6] for case in fold["val"]}


def test_bins_of_age_and_what_is_unknown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bids_tree(root)
    options = ("--option", "class=age", "--option", "bins=40,60")
    assert "missing=leave-out" in refused(capsys, "t1_bids", root, *options)
    folder = convert("t1_bids", root, *options, "--option", "missing=leave-out")
    classes = {row["case"]: row["class"] for row in table(folder / "classes.csv")}
    assert classes == {"sub-01_ses-1": "below 40", "sub-01_ses-2": "below 40", "sub-02_run-02": "40 to 60"}


@pytest.mark.parametrize("names", ["sub-0001 sub-0002 sub-0003", "1.0 2.0 3.0", "SUB-01 SUB-02 SUB-03"])
def test_a_table_with_other_names_of_subjects_is_blamed(
    names: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids_tree(root)
    rows = "".join(f"{name}\tF\n" for name in names.split())
    (root / "participants.tsv").write_text(f"participant_id\tsex\n{rows}")
    options = ("--option", "class=sex")
    told = "sex of 4 cases is unknown (not in the table 4), such as sub-01_ses-1, sub-01_ses-2, sub-02_run-02"
    assert f"{told}; complete the table" in refused(capsys, "t1_bids", root, *options)
    wanted = f"{told}, so no case is left; do the names in the table and those of the files agree?"
    assert wanted in refused(capsys, "t1_bids", root, *options, "missing=leave-out")


def test_subjects_of_two_openneuro_sets_are_apart(root: Path) -> None:
    for seed, accession in enumerate(("ds000001", "ds000002")):
        name = "sub-01/ses-DEFAULT/anat/sub-01_ses-DEFAULT_T1w.nii.gz"
        trees.save(trees.image(seed), root / f"OpenMind/{accession}/{name}")
    rows = table(convert("t1_bids", root) / "conversion_manifest.csv")
    assert [row["subject"] for row in rows] == ["ds000001_sub-01", "ds000002_sub-01"]


def test_ixi_with_a_table_of_plain_numbers(root: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("IXI002-Guys-0828-T1", "IXI012-HH-1211-T1", "IXI013-HH-1212-T2")):
        trees.save(trees.image(seed), root / f"IXI-T1/{name}.nii.gz")
    ages = tmp_path / "IXI.csv"
    ages.write_text("IXI_ID,SEX\n2,1\n12,2\n")
    folder = convert("t1_bids", root, "--option", "class=SEX", "--option", f"table={ages}")
    assert {row["case"]: row["class"] for row in table(folder / "classes.csv")} == {
        "IXI002_Guys": "1",
        "IXI012_HH": "2",
    }
    assert {row["site"] for row in table(folder / "conversion_manifest.csv")} == {"Guys", "HH"}


@pytest.mark.parametrize("dataset", ["t1_bids", "t1_folder"])
def test_endings_may_be_in_capitals(dataset: str, root: Path) -> None:
    for seed, ending in enumerate((".NII.GZ", ".Nii", ".MGZ")):
        kind = nib.MGHImage if ending == ".MGZ" else nib.Nifti1Image
        path = root / f"sub-{seed}_T1w{ending.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(kind(trees.image(seed), trees.AFFINE), path)
        path.rename(path.with_name(f"sub-{seed}_T1w{ending}"))
    rows = table(convert(dataset, root) / "conversion_manifest.csv")
    assert [row["subject"] for row in rows] == ["sub-0", "sub-1", "sub-2"]


def test_a_number_after_letters_is_part_of_the_subject(root: Path) -> None:
    for seed, name in enumerate(("sub-control_001", "sub-control_002/ses-1", "sub-control_002/ses-2", "sub-01_1")):
        trees.save(trees.image(seed), root / f"{name}/T1.nii.gz")
    rows = table(convert("t1_folder", root) / "conversion_manifest.csv")
    assert [row["subject"] for row in rows] == ["sub-01", "sub-control_001", "sub-control_002", "sub-control_002"]


def test_scans_whose_subject_is_not_recognised_are_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names_ = ("ADNI/002_S_0295/I1/a", "ADNI/002_S_0295/I2/a", "ADNI/002_S_0413/I3/a", "P1/visit1/T1", "P1/visit2/T1")
    for seed, name in enumerate(names_):
        trees.save(trees.image(seed), root / f"{name}.nii.gz")
    rows = table(convert("t1_folder", root) / "conversion_manifest.csv")
    assert [row["subject"] for row in rows][:3] == ["002_S_0295", "002_S_0295", "002_S_0413"]
    assert "note: no subject recognised: taken for a person of its own" in (out := capsys.readouterr().out)
    assert "in 2 cases: P1_visit1_T1, P1_visit2_T1" in out
    convert("t1_folder", root, "--option", r"subject=(002_S_\d+|P\d+)", "--overwrite")
    assert "no subject" not in capsys.readouterr().out


def test_a_tree_of_computed_images_alone_is_refused_as_such(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("desc-preproc_T1w", "space-MNI_T1w", "desc-brain_mask")):
        trees.save(trees.image(seed), root / f"sub-01/anat/sub-01_{name}.nii.gz")
    error = refused(capsys, "t1_bids", root)
    assert "holds no raw T1 image: 2 others left out (computed or resampled copy (desc-preproc) 1, computed" in error


def test_any_folder_of_t1(root: Path) -> None:
    for seed, name in enumerate(("P1/first_T1", "P1/second_T1", "P2/first_T1", "P2/first_FLAIR")):
        trees.save(trees.image(seed), root / f"{name}.nii.gz")
    folder = convert("t1_folder", root, "--option", "name=*_T1*", "--option", "subject=(P[0-9]+)")
    rows = table(folder / "conversion_manifest.csv")
    assert {row["case"]: row["subject"] for row in rows} == {
        "P1_first_T1": "P1",
        "P1_second_T1": "P1",
        "P2_first_T1": "P2",
    }
    assert len(names(folder / "labelsTr")) == 3
