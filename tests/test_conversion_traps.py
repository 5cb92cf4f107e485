"""What silently goes wrong in these data sets: each trap is caught, and the right thing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from nnunet_transfer.cli import main
from tests import conversion_trees as trees
from tests.conversion_commands import GOOD, GOOD_SECOND, OUT, case_r2, convert, label, refusal, rows
from tests.conversion_trees import SHAPE, Files, box, damage, image, stripes, write_tree

# --- values of masks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0.9999999776, np.float32),
        (254.9999999, np.float64),
        (1.99, np.float32),
        (1, np.uint16),
        (1, np.int32),
        (0.3, np.float64),
    ],
)
def test_binary_masks_are_thresholded_before_any_cast(value: float, dtype: Any, nnunet_folders: Path) -> None:
    assert convert(nnunet_folders, "atlas_r2", case_r2(1, image(1), box(value, dtype=dtype)) | GOOD_SECOND) == 0
    written = label(nnunet_folders, "sub-r001_ses-1")
    assert written.dtype == np.uint8
    np.testing.assert_array_equal(written, box())


def test_several_lesion_files_of_a_visit_are_united(nnunet_folders: Path) -> None:
    assert convert(nnunet_folders, "atlas_r1", trees.atlas_r1()) == 0
    union = box(1, 1, 2) + box(1, 4, 2)
    np.testing.assert_array_equal(label(nnunet_folders, "Site1_031768_t02"), union)
    row = rows(nnunet_folders)["Site1_031768_t02"]
    assert "union of 2 masks" in row["actions"]
    assert (row["lesions"], row["lesion_ml"]) == ("2", f"{union.sum() * 2 / 1000:g}")
    assert row["label_values"] == "0 | 0.9999999997 | 254.9999999"
    assert row["sha256"].count(" | ") == row["source_files"].count(" | ") == 2


def test_site_comes_from_the_metadata_and_gaps_say_nothing(nnunet_folders: Path) -> None:
    files = {
        name: text.replace("SOOP", "S07") if isinstance(text, str) else text for name, text in trees.atlas_r3().items()
    }
    assert convert(nnunet_folders, "atlas_r3", files) == 0
    table = rows(nnunet_folders)
    assert [row["site"] for row in table.values()] == ["R039", "R001", "S07"]
    assert "chronicity 1" in table["sub-r001s001_ses-1"]["actions"]
    assert "days" not in table["sub-r001s001_ses-1"]["actions"] + table["sub-r000s001_ses-1"]["actions"]
    assert "days after stroke 2" in table["sub-r002s001_ses-1"]["actions"]


@pytest.mark.parametrize(
    ("metadata", "site", "noted"),
    [
        (b"SITE;CHRONICITY\nS07;180\n", "S07", "chronicity 180"),
        ("SITE,CHRONICITY\nS07,180\n".encode("utf-16"), "S07", "chronicity 180"),
        ("SITE,CHRONICITY\nZürich,180\n".encode("latin-1"), "R001", "site taken from the folder"),
        (b"SITE\n" + b"x" * 200_000, "R001", "site taken from the folder"),
        (b"", "R001", ""),
    ],
)
def test_metadata_that_can_not_be_read_end_no_conversion(
    metadata: bytes, site: str, noted: str, nnunet_folders: Path
) -> None:
    root = write_tree(trees.atlas_r3(), nnunet_folders / "source")
    next(root.rglob("sub-r001s001_ses-1_metadata.csv")).write_bytes(metadata)
    assert convert(nnunet_folders, "atlas_r3", {}) == 0
    row = rows(nnunet_folders)["sub-r001s001_ses-1"]
    assert row["site"] == site
    assert noted in row["actions"]


def test_whole_numbers_that_no_label_is_are_refused(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = case_r2(1, image(1), box().astype(np.uint64) * np.uint64(2**64 - 1)) | GOOD_SECOND
    assert "holds whole numbers beyond 2^53" in refusal(nnunet_folders, capsys, "atlas_r2", files)


@pytest.mark.parametrize(
    ("value", "said"), [(3e9, "aren't in the data set's table: 3000000000"), (1e30, "holds 1e+30")]
)
def test_large_numbers_in_a_label_map_are_refused_as_such(
    value: float, said: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tree(trees.mrbrains18(), nnunet_folders / "source")
    trees.save(box(value, dtype=np.float64), root / "training/4/segm.nii.gz")
    assert said in refusal(nnunet_folders, capsys, "mrbrains18", {})


@pytest.mark.parametrize(
    ("dataset", "tree", "case", "values"),
    [
        ("wmh2017", trees.wmh2017, "Utrecht_11", {0: 0, 1: 1, 2: 2}),
        ("mrbrains18", trees.mrbrains18, "070", {**{i: i for i in range(9)}, 9: 9, 10: 9}),
        ("miccai2012", trees.miccai2012, "1000_3", {4: 1, 43: 135, 1: 135}),
        ("mindboggle101", trees.mindboggle101, "HLN-12-7", {1002: 1, 1035: 31, 2002: 32, 2035: 62, 1032: 63}),
    ],
)
def test_what_a_challenge_leaves_out_becomes_ignore(
    dataset: str, tree: Any, case: str, values: dict[int, int], nnunet_folders: Path
) -> None:
    files = tree()
    assert convert(nnunet_folders, dataset, files) == 0
    names = json.loads((nnunet_folders / f"raw/{OUT}/dataset.json").read_text())["labels"]
    assert names["ignore"] == len(names) - 1
    (source,) = (data for name, data in files.items() if rows(nnunet_folders)[case]["source_files"].endswith(name))
    written = label(nnunet_folders, case)
    for raw, expected in values.items():
        assert set(np.unique(written[source == raw])) == {expected}
    if dataset != "wmh2017":
        kept = json.loads((nnunet_folders / f"raw/{OUT}/label_map.json").read_text())
        assert {int(raw): kept[str(raw)]["label"] for raw in values} == values
        assert all(names[entry["name"]] == entry["label"] for entry in kept.values())


@pytest.mark.parametrize("value", [1004, 14175, -1, 0.5])
def test_unknown_label_values_are_refused(
    value: float, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = trees.freesurfer()
    _, lia = files["subjects/sub-01_ses-1/mri/aparc+aseg.mgz"]
    data = stripes(2, 1035, dtype=np.int32).astype(np.float32)
    data[0, 0, 0] = value
    files["subjects/sub-01_ses-1/mri/aparc+aseg.mgz"] = data, lia
    error = refusal(nnunet_folders, capsys, "freesurfer", files, "--label-set", "aparc+aseg")
    wanted = "aren't whole numbers" if value == 0.5 else f"aren't in the data set's table: {value:g}"
    assert f"sub-01_ses-1: aparc+aseg.mgz holds {'values that ' * (value == 0.5)}" in error
    assert wanted in error


def test_the_classes_of_freesurfer_are_those_of_its_table(nnunet_folders: Path) -> None:
    assert convert(nnunet_folders, "freesurfer", trees.freesurfer(), "--label-set", "aseg") == 0
    names = json.loads((nnunet_folders / f"raw/{OUT}/dataset.json").read_text())["labels"]
    mapped = json.loads((nnunet_folders / f"raw/{OUT}/label_map.json").read_text())
    for raw, name in {
        2: "Left-Cerebral-White-Matter",
        17: "Left-Hippocampus",
        53: "Right-Hippocampus",
        255: "CC_Anterior",
    }.items():
        assert mapped[str(raw)] == {"label": names[name], "name": name}


# --- raters ----------------------------------------------------------------------------------------------------------


def test_a_rater_must_be_chosen_where_there_is_no_consensus(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "choose with --rater" in refusal(nnunet_folders, capsys, "isbi2015", trees.isbi2015())
    assert "no mask of rater 3" in refusal(nnunet_folders, capsys, "isbi2015", trees.isbi2015(), "--rater", "3")
    assert "label set lesion of atlas_r2 has no raters" in refusal(
        nnunet_folders, capsys, "atlas_r2", GOOD, "--rater", "1"
    )


@pytest.mark.parametrize(
    ("rater", "expected"),
    [
        ("1", box(1, 2, 3)),
        ("2", box(1, 3, 3)),
        ("union", box(1, 2, 3) | box(1, 3, 3)),
        ("intersection", box(1, 3, 2)),
        ("majority", box(1, 3, 2)),
    ],
)
def test_raters_are_combined_as_asked(rater: str, expected: NDArray[Any], nnunet_folders: Path) -> None:
    assert convert(nnunet_folders, "isbi2015", trees.isbi2015(), "--rater", rater) == 0
    np.testing.assert_array_equal(label(nnunet_folders, "training01_01"), expected)
    assert rows(nnunet_folders)["training01_01"]["rater"] == rater


def test_a_consensus_is_no_rater_among_others(nnunet_folders: Path) -> None:
    assert convert(nnunet_folders, "msseg2016", trees.msseg2016(), "--rater", "union") == 0
    table = rows(nnunet_folders)["Center_01_Patient_01"]
    assert "union of 7 raters" in table["actions"]
    assert "Consensus" not in table["source_files"]


# --- images ----------------------------------------------------------------------------------------------------------


def test_a_fourth_axis_of_one_is_squeezed_others_are_refused(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = np.stack([image(1), image(2)], axis=-1)
    assert "has 4 axes, 12 x 13 x 8 x 2" in refusal(
        nnunet_folders, capsys, "atlas_r2", case_r2(1, two, box()) | GOOD_SECOND
    )
    assert convert(nnunet_folders, "ibsr18", trees.ibsr18()) == 0
    assert "squeezed from 4D" in rows(nnunet_folders)["IBSR_01"]["actions"]


def test_voxels_that_are_no_numbers_are_reported_and_set_to_zero(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = image(1)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    assert convert(nnunet_folders, "atlas_r2", case_r2(1, data, box()) | GOOD_SECOND) == 0
    assert "voxels that aren't finite numbers set to 0 in 1 case: sub-r001_ses-1" in capsys.readouterr().out
    assert "3 voxels that aren't finite numbers" in rows(nnunet_folders)["sub-r001_ses-1"]["actions"]
    written = np.asarray(nib.load(nnunet_folders / f"raw/{OUT}/imagesTr/sub-r001_ses-1_0000.nii.gz").dataobj)
    np.testing.assert_array_equal(written, np.nan_to_num(data, posinf=0, neginf=0))


def test_a_single_voxel_that_is_no_number_is_one(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = image(1)
    data[0, 0, 0] = np.nan
    assert convert(nnunet_folders, "atlas_r2", case_r2(1, data, box()) | GOOD_SECOND) == 0
    assert "voxel that isn't a finite number set to 0 in 1 case: sub-r001_ses-1" in capsys.readouterr().out
    assert "1 voxel that isn't a finite number set to 0" in rows(nnunet_folders)["sub-r001_ses-1"]["actions"]


def test_an_image_without_content_is_refused(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(nnunet_folders, capsys, "atlas_r2", case_r2(1, np.zeros(SHAPE, np.int16), box()) | GOOD_SECOND)
    assert "is empty: all voxels are 0" in error


def test_an_empty_mask_is_kept_and_reported(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(nnunet_folders, "atlas_r2", case_r2(1, image(1), box(0)) | GOOD_SECOND) == 0
    assert "empty label in 1 case: sub-r001_ses-1" in capsys.readouterr().out
    assert rows(nnunet_folders)["sub-r001_ses-1"]["lesion_ml"] == "0"


def test_the_same_image_under_two_names_stays_in_one_fold(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files: Files = {}
    for i in range(6):
        files |= case_r2(i, image(min(i, 4)), box())  # 4 and 5 are the same
    assert convert(nnunet_folders, "atlas_r2", files) == 0
    assert "the same image under 2 names: sub-r004_ses-1, sub-r005_ses-1; kept in one fold" in capsys.readouterr().out
    folds = json.loads((nnunet_folders / f"raw/{OUT}/splits_final.json").read_text())
    assert sum({"sub-r004_ses-1", "sub-r005_ses-1"} <= set(fold["val"]) for fold in folds) == 1


def test_the_same_image_for_training_and_testing_is_said_to_be(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = GOOD | case_r2(3, image(1)) | case_r2(4, image(4)) | case_r2(5, image(4))
    assert convert(nnunet_folders, "atlas_r2", files) == 0
    text = capsys.readouterr().out
    same = "the same image under 2 names"
    assert f"{same}: sub-r001_ses-1, sub-r003_ses-1; some for training, others for testing" in text
    assert f"{same}: sub-r004_ses-1, sub-r005_ses-1; all for testing" in text


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_files_that_need_no_change_are_copied_as_they_are(dtype: Any, nnunet_folders: Path) -> None:
    root = write_tree(case_r2(1, image(1, dtype=dtype), box()) | GOOD_SECOND, nnunet_folders / "source")
    assert main(["convert", "atlas_r2", str(root), "-d", "4", "--name", "Test", "--processes", "1"]) == 0
    written = nnunet_folders / f"raw/{OUT}/imagesTr/sub-r001_ses-1_0000.nii.gz"
    assert written.read_bytes() == next(root.rglob("sub-r001*T1w.nii.gz")).read_bytes()
    assert not written.is_symlink()


def test_links_are_made_only_to_files_that_need_no_change(nnunet_folders: Path) -> None:
    files = case_r2(1, image(1), box()) | case_r2(2, image(2)[..., None], box())
    assert convert(nnunet_folders, "atlas_r2", files, "--link") == 0
    images = nnunet_folders / f"raw/{OUT}/imagesTr"
    assert (images / "sub-r001_ses-1_0000.nii.gz").is_symlink()
    assert (images / "sub-r001_ses-1_0000.nii.gz").resolve().name.endswith("T1w.nii.gz")
    assert not (images / "sub-r002_ses-1_0000.nii.gz").is_symlink()


def test_images_without_labels_are_for_testing(nnunet_folders: Path) -> None:
    assert convert(nnunet_folders, "atlas_r2", GOOD | case_r2(3, image(3))) == 0
    assert (nnunet_folders / f"raw/{OUT}/imagesTs/sub-r003_ses-1_0000.nii.gz").is_file()
    assert "no label found" in rows(nnunet_folders)["sub-r003_ses-1"]["actions"]


# --- bad input -------------------------------------------------------------------------------------------------------

DAMAGED = {
    "truncated": "is cut off: its gzip stream has no end",
    "corrupt": "is damaged",
    "text": "is not a NIfTI file despite its name",
    "cut header": "has a damaged header",
    "short": "is cut off: 100 bytes of voxels are missing",
}


@pytest.mark.parametrize("part", ["T1w", "mask"])
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_one_line_and_the_rest_is_kept_if_asked(
    kind: str, part: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tree(GOOD, nnunet_folders / "source")
    damage(next(root.rglob(f"sub-r001*{part}.nii.gz")), kind)
    error = refusal(nnunet_folders, capsys, "atlas_r2", {})
    assert "1 of 2 cases can't be converted (sub-r001_ses-1: sub-r001" in error
    assert DAMAGED[kind] in error
    assert convert(nnunet_folders, "atlas_r2", {}, "--allow-skips") == 0
    assert list(rows(nnunet_folders)) == ["sub-r002_ses-1"]
    skipped = rows(nnunet_folders, "conversion_skips")["sub-r001_ses-1"]
    assert DAMAGED[kind] in skipped["reason"]
    assert "T1w" in skipped["source_files"]
    assert {p.name for p in (nnunet_folders / "raw").iterdir()} == {OUT}
    assert [p.name for p in (nnunet_folders / f"raw/{OUT}/imagesTr").iterdir()] == ["sub-r002_ses-1_0000.nii.gz"]


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"a/b/c.nii.gz": image()}, r"looked for Training/\{site\}/\{subject\}.*; found 1 files such as a/b/c.nii.gz"),
        ({}, "found 0 files such as no file"),
        ({k: v for k, v in GOOD.items() if "mask" in k}, "sub-r001_ses-1: there is a mask but no image"),
        (
            GOOD | {k.replace(".nii.gz", ".nii"): v for k, v in GOOD.items()},
            "are one name with two endings",
        ),
        (case_r2(1, image()), "no case has a label"),
        (GOOD | {k.replace("R001", "R002"): v for k, v in GOOD.items()}, "2 cases have this name"),
    ],
)
def test_a_tree_that_is_not_as_it_should_be_is_one_line(
    files: Files, wanted: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    (nnunet_folders / "source").mkdir()
    assert re.search(wanted, refusal(nnunet_folders, capsys, "atlas_r2", files))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--channels", "FLAIR"], "atlas_r2 has no channel FLAIR; there are: T1"),
        (["--label-set", "x"], "atlas_r2 has no label set x; there are: lesion"),
        (["--folds", "1"], "--folds 1 is too small; give 2 or more"),
        (["--limit", "0"], "--limit 0 is too small; give 1 or more"),
        (["--reorient", "RAL"], "RAL is not an orientation"),
        (["--name", "a b"], "Dataset004_a b isn't a name that nnU-Net accepts"),
        (["--threshold", "nan"], "threshold nan takes all or nothing"),
        (["--threshold", "inf"], "give a finite number"),
        (["--option", "x"], "--option x has no value"),
        (["--option", "x=1"], "atlas_r2 has no option x; there are: none"),
    ],
)
def test_an_option_that_can_not_be_is_one_line(
    options: list[str], wanted: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wanted in refusal(nnunet_folders, capsys, "atlas_r2", GOOD, *options)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["atlas_r4", ".", "-d", "1"], "unknown data set atlas_r4; did you mean atlas_r"),
        (["atlas_r2"], "give the data set's NAME, its folder and an id"),
        (["atlas_r2", "nowhere", "-d", "1"], "nowhere is not a folder"),
        (["mine.py", ".", "-d", "1"], "mine.py is not a Python file"),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(
    arguments: list[str], wanted: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", *arguments]) == 2
    assert wanted in capsys.readouterr().err
    assert not list((nnunet_folders / "raw").iterdir())


def test_unused_grids_are_no_trouble(nnunet_folders: Path) -> None:
    # a file that isn't asked for may be anything
    files = trees.mrbrains18()
    root = write_tree(files, nnunet_folders / "source")
    damage(root / "training/1/pre/reg_IR.nii.gz", "text")
    assert main(["convert", "mrbrains18", str(root), "-d", "4", "--processes", "1"]) == 0
