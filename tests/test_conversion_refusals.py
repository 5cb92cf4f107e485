"""What must not be converted as if it were meant: masks that are none, doubtful copies, and what goes unsaid."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from nnunet_transfer.cli import main
from nnunet_transfer.conversion import engine
from tests import conversion_trees as trees
from tests.conversion_commands import GOOD, OUT, case_r2, convert, label, refusal, rows
from tests.conversion_trees import AFFINE, SHAPE, Files, box, image, save, write_tree

R2_MASK = "_label-L_desc-T1lesion_mask.nii.gz"
GOOD_SECOND = case_r2(2, image(2), box(1, 4, 3))


# --- masks that are none ---------------------------------------------------------------------------------------------


def interpolated() -> NDArray[np.float32]:
    """Return a box that was resampled linearly: values between 0 and 1 around it."""
    return ndimage.uniform_filter(box(dtype=np.float32), 3)


def brain() -> NDArray[Any]:
    """Return an image with a background: what is not 0 is half of it."""
    data = image(3)
    data[6:] = 0
    return data


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (interpolated(), "not a binary mask"),
        (image(3), "not a binary mask"),
        ((image(3) / 100).astype(np.float32), "like a probability map"),
        (box(1) + 2 * box(1, 6, 2), "2 values beside 0 from 1 to 2"),
        ((brain() > 0).view(np.uint8), "of the image's content"),
        (np.where(box() > 0, np.inf, 0).astype(np.float32), "infinite"),
    ],
    ids=["interpolated", "the image", "probabilities", "two labels", "the whole brain", "infinite"],
)
def test_a_mask_that_is_none_is_refused(
    mask: NDArray[Any], said: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(nnunet_folders, capsys, "atlas_r2", case_r2(1, brain(), mask) | case_r2(2, image(2), box()))
    assert said in error
    assert "1 of 2 cases" in error


def test_a_whole_brain_is_no_lesion_beside_other_labels(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = trees.wmh2017()
    case = "wmh/training/Utrecht/11"
    mask = (brain() > 0).view(np.uint8)
    mask[0, 0, 0] = 2
    error = refusal(
        nnunet_folders, capsys, "wmh2017", files | {f"{case}/pre/T1.nii.gz": brain(), f"{case}/wmh.nii.gz": mask}
    )
    assert "Utrecht_11: the mask covers 100% of the image's content" in error


def test_a_threshold_takes_what_lies_above_it(nnunet_folders: Path) -> None:
    mask = interpolated()
    assert convert(nnunet_folders, "atlas_r2", case_r2(1, image(1), mask) | GOOD_SECOND, "--threshold", "0.5") == 0
    np.testing.assert_array_equal(label(nnunet_folders, "sub-r001_ses-1"), mask > 0.5)
    row = rows(nnunet_folders)["sub-r001_ses-1"]
    assert "values above 0.5 set to 1" in row["actions"]
    assert int(row["written_voxels"].split(";")[-1].split()[-1]) == int((mask > 0.5).sum())


def test_a_threshold_for_other_values_is_pointed_out(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = [interpolated(), 255 * interpolated(), box(255)]
    files: Files = {}
    for number, mask in enumerate(masks):
        files |= case_r2(number, image(number), mask)
    assert convert(nnunet_folders, "atlas_r2", files, "--threshold", "0.5") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "hardly suits" in line]
    assert said == ["note: threshold 0.5 hardly suits values up to 255 in 1 case: sub-r001_ses-1"]


def test_a_threshold_says_where_it_leaves_nothing_and_spares_255_stored_as_a_signed_number(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = [interpolated(), box(-1, dtype=np.int8), box(0.25, dtype=np.float32), box(0)]
    files: Files = {}
    for number, mask in enumerate(masks):
        files |= case_r2(number, image(number), mask)
    assert convert(nnunet_folders, "atlas_r2", files, "--threshold", "0.5") == 0
    np.testing.assert_array_equal(label(nnunet_folders, "sub-r001_ses-1"), box())
    out = capsys.readouterr().out
    assert "note: nothing is above the threshold in 1 case: sub-r002_ses-1" in out
    assert "note: empty label in 2 cases: sub-r002_ses-1, sub-r003_ses-1" in out


@pytest.mark.parametrize(("last", "said"), [(box(0), True), (box(), False)], ids=["none", "one"])
def test_labels_without_a_labelled_voxel_are_named_before_nnunet_fails_on_them(
    last: NDArray[Any], said: bool, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(nnunet_folders, "atlas_r2", case_r2(1, image(1), box(0)) | case_r2(2, image(2), last)) == 0
    assert ("note: no case for training has a labelled voxel" in capsys.readouterr().out) == said


def test_a_file_that_is_mask_and_image_is_refused(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = box(dtype=np.uint8)
    assert "the mask and the image" in refusal(nnunet_folders, capsys, "atlas_r2", case_r2(1, same, same) | GOOD_SECOND)


@pytest.mark.parametrize("part", ["_T1w.nii.gz", R2_MASK])
def test_a_name_with_two_endings_is_refused(
    part: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(name for name in GOOD if name.endswith(part))
    twice = GOOD | {path.removesuffix(".gz"): GOOD[path]}
    assert "one name with two endings" in refusal(nnunet_folders, capsys, "atlas_r2", twice)


# --- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [(), ("--geometry", "copy-from-image")], ids=["default", "copy"])
def test_a_mask_that_is_stored_flipped_is_never_mirrored(
    how: tuple[str, ...], nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = box()
    turned = AFFINE @ np.diag([-1.0, 1, 1, 1])
    turned[:3, 3] += AFFINE[:3, 0] * (SHAPE[0] - 1)
    files = case_r2(1, image(1), (mask[::-1], turned)) | GOOD_SECOND
    assert "--geometry resample-label, which is exact here" in refusal(nnunet_folders, capsys, "atlas_r2", files, *how)
    assert convert(nnunet_folders, "atlas_r2", files, "--geometry", "resample-label") == 0
    np.testing.assert_array_equal(label(nnunet_folders, "sub-r001_ses-1"), mask)


def test_lesions_that_resampling_loses_are_counted_and_can_be_kept(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = AFFINE @ np.diag([1 / 3, 1 / 3, 1 / 3, 1])
    mask = np.zeros([3 * n for n in SHAPE], np.uint8)
    for i in range(5):  # of one fine voxel each, away from the coarse voxels' centres
        mask[6 * i + 2, 8, 8] = 1
    files = case_r2(1, image(1), (mask, fine)) | GOOD_SECOND
    assert convert(nnunet_folders, "atlas_r2", files, "--geometry", "resample-label") == 0
    assert "resample-label-coverage keeps small ones" in capsys.readouterr().out
    row = rows(nnunet_folders)["sub-r001_ses-1"]
    assert (row["source_lesions"], row["lesions"]) == ("5", "0")
    again = ("--geometry", "resample-label-coverage", "--overwrite")
    assert convert(nnunet_folders, "atlas_r2", files, *again) == 0
    assert rows(nnunet_folders)["sub-r001_ses-1"]["lesions"] == "5"


# --- what is passed over ---------------------------------------------------------------------------------------------


def bids(*stems: str) -> Files:
    """Return T1 images with these paths below the root."""
    return {f"{stem}.nii.gz": image(i) for i, stem in enumerate(stems)}


def left_out(folders: Path) -> dict[str, str]:
    """Return file -> reason of what the conversion left out."""
    lines = (folders / f"raw/{OUT}/conversion_left_out.csv").read_text(encoding="utf-8").splitlines()[1:]
    return dict(line.rsplit(",", 1) for line in lines)


def test_bidsignore_follows_the_rules_of_gitignore(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = bids(
        "sub-01/anat/sub-01_T1w",
        "sub-01/anat/sub-01_acq-bad_T1w",
        "sub-02/anat/sub-02_acq-bad_T1w",
        "extra/deep/down/sub-03_T1w",
        "sub-04/anat/sub-04_T1w",
    )
    patterns = "# comment\n*_acq-bad_T1w.nii.gz\n!sub-02_acq-bad_T1w.nii.gz\n/extra/**/sub-03_*\n\\\n"
    assert convert(nnunet_folders, "t1_bids", files | {".bidsignore": patterns}) == 0
    assert set(rows(nnunet_folders)) == {"sub-01", "sub-02_acq-bad", "sub-04"}
    ignored = {path for path, reason in left_out(nnunet_folders).items() if reason == ".bidsignore"}
    assert ignored == {"sub-01/anat/sub-01_acq-bad_T1w.nii.gz", "extra/deep/down/sub-03_T1w.nii.gz"}
    out = capsys.readouterr().out
    assert "3 cases found, 3 converted, 0 left out; 7 other images" in out  # five more are hidden
    assert "not taken: 2 because of: .bidsignore" in out


def test_an_image_that_is_not_downloaded_names_the_command(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tree(bids("sub-01/anat/sub-01_T1w", "sub-02/anat/sub-02_T1w"), nnunet_folders / "source")
    link = root / "sub-03/anat/sub-03_T1w.nii.gz"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../.git/annex/objects/xx/yy/MD5E-s1--00.nii.gz")
    assert convert(nnunet_folders, "t1_bids", {}) == 2
    assert f"datalad get {link}" in capsys.readouterr().err


def test_a_folder_behind_a_link_is_searched(nnunet_folders: Path) -> None:
    root = write_tree(bids("sub-01/anat/sub-01_T1w"), nnunet_folders / "source")
    save(image(5), nnunet_folders / "store/sub-02/anat/sub-02_T1w.nii.gz")
    (root / "sub-02").symlink_to(nnunet_folders / "store/sub-02")
    os.symlink(root, root / "sub-01" / "around")
    assert convert(nnunet_folders, "t1_bids", {}) == 0
    assert set(rows(nnunet_folders)) == {"sub-01", "sub-02"}
    assert any("holds the root" in reason or "searched as" in reason for reason in left_out(nnunet_folders).values())


# --- names, raters, headers ------------------------------------------------------------------------------------------


def test_names_in_any_script_stay_apart(nnunet_folders: Path) -> None:
    names = ["Müller", "Möller", "李", "O'Neil (2)", "O'Neil 2"]
    files = {f"{name}.nii.gz": image(i) for i, name in enumerate(names)}
    assert convert(nnunet_folders, "t1_folder", files) == 0
    table = rows(nnunet_folders)
    assert len(table) == len(names)
    assert all(case.isascii() and case.strip("_-.") for case in table)
    assert {Path(row["source_files"].split(";")[0]).name for row in table.values()} == set(files)


@pytest.mark.parametrize("rater", ["consensus", "CONSENSUS"])
def test_a_rater_is_found_whatever_the_capitals(rater: str, nnunet_folders: Path) -> None:
    assert convert(nnunet_folders, "msseg2016", trees.msseg2016(), "--rater", rater) == 0


def test_nnunet_reads_the_geometry_that_was_written(nnunet_folders: Path) -> None:
    """As nnU-Net's `--verify_dataset_integrity`, with its own reader, for a header that contradicts itself."""
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    root = write_tree(GOOD, nnunet_folders / "source")
    for path in root.rglob("*_T1w.nii.gz"):
        if path.name.startswith("."):
            continue
        volume = nib.load(path)
        volume.header["pixdim"][1:4] = 1
        nib.Nifti1Image(np.asarray(volume.dataobj), None, volume.header).to_filename(path)
        stored = nib.load(path)
        assert not np.allclose(stored.header["pixdim"][1:4], np.linalg.norm(stored.affine[:3, :3], axis=0))
    assert convert(nnunet_folders, "atlas_r2", {}) == 0
    assert "taken" in next(iter(rows(nnunet_folders).values()))["actions"]
    verify_dataset_integrity(str(nnunet_folders / "raw" / OUT), num_processes=1)


# --- options that don't go with the data -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        ("imagefolder", ["--channels", "FLAIR"], "--channels is for volumes; imagefolder has pictures"),
        ("imagefolder", ["--reorient"], "--reorient is for volumes"),
        ("imagefolder", ["--geometry", "resample-image"], "--geometry is for volumes"),
        ("imagefolder", ["--threshold", "0.5"], "label set foreground needs no masks"),
        ("mslesseg", ["--group-by", "site"], "case P1_T1 has no site; take --group-by subject"),
    ],
)
def test_options_without_effect_on_the_data_are_refused_before_the_first_case(
    dataset: str,
    options: list[str],
    said: str,
    nnunet_folders: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(engine, "convert_cases", lambda *_: pytest.fail("a case was converted"))
    folder = nnunet_folders / "source/cat"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(folder / "1.png")
    assert said in refusal(nnunet_folders, capsys, dataset, trees.mslesseg(), *options)
    # nor does the preview say that it would be converted
    assert main(["convert", dataset, str(nnunet_folders / "source"), "-d", "4", "--dry-run", *options]) == 2
