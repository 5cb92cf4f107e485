"""Real images in the layout of the data sets they come from."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_transfer.cli import main

pytestmark = pytest.mark.real_data


def link(source: Path, target: Path) -> None:
    """Put a file into a tree without copying it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


def convert(dataset: str, root: Path, *options: str) -> Path:
    """Convert a tree; return the new data set's folder."""
    assert main(["convert", dataset, str(root), "-d", "5", "--name", "Real", "--processes", "1", *options]) == 0
    return root.parent / "raw/Dataset005_Real"


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the manifest."""
    with open(folder / "conversion_manifest.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def mslesseg(real_data: Path, nnunet_folders: Path) -> Path:
    """MSLesSeg's layout with four sessions of two patients."""
    root = nnunet_folders / "MSLesSeg"
    for point in ("P14_tp1", "P14_tp2", "P14_tp3", "P39_tp1"):
        patient, visit = point.split("_tp")
        for kind, name in (("T1", "T1"), ("FLAIR", "FLAIR"), ("lesion", "MASK")):
            source = real_data / f"ms_lesions/mslesseg_{point}_{kind}.nii.gz"
            link(source, root / f"train/{patient}/T{visit}/{patient}_T{visit}_{name}.nii.gz")
    return root


def test_mslesseg(mslesseg: Path, real_data: Path) -> None:
    folder = convert("mslesseg", mslesseg, "--channels", "T1", "FLAIR")
    with open(real_data / "ms_lesions/cases.tsv", newline="", encoding="utf-8") as stream:
        published = {r["case"]: float(r["lesion_mm3"]) for r in csv.DictReader(stream, delimiter="\t")}
    found = rows(folder)
    assert [row["case"] for row in found] == ["P14_T1", "P14_T2", "P14_T3", "P39_T1"]
    for row in found:
        name = "mslesseg_" + row["case"].replace("_T", "_tp")
        assert 1000 * float(row["lesion_ml"]) == pytest.approx(published[name], abs=1)
        for i, channel in enumerate(("T1", "FLAIR")):
            # nothing needs changing, so the very files are there
            written = folder / f"imagesTr/{row['case']}_{i:04d}.nii.gz"
            assert written.read_bytes() == (real_data / f"ms_lesions/{name}_{channel}.nii.gz").read_bytes()
        label = nib.load(folder / f"labelsTr/{row['case']}.nii.gz")
        assert label.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(label.dataobj, nib.load(real_data / f"ms_lesions/{name}_lesion.nii.gz").dataobj)
    folds = json.loads((folder / "splits_final.json").read_text())
    assert sorted(fold["val"] for fold in folds) == [["P14_T1", "P14_T2", "P14_T3"], ["P39_T1"]]


def test_ljubljana(real_data: Path, nnunet_folders: Path) -> None:
    root = nnunet_folders / "open_ms_data"
    for patient in ("07", "26"):
        for kind, name in (("T1", "T1W"), ("FLAIR", "FLAIR"), ("lesion", "consensus_gt")):
            source = real_data / f"ms_lesions/ljubljana_p{patient}_{kind}.nii.gz"
            link(source, root / f"cross_sectional/MNI/patient{patient}/{name}.nii.gz")
    found = rows(convert("ljubljana", root))
    assert [(row["case"], row["lesion_ml"]) for row in found] == [("patient07", "1.3"), ("patient26", "8.227")]
    assert {row["orientation"] for row in found} == {"LAS"}


def test_miccai2012(real_data: Path, nnunet_folders: Path) -> None:
    root = nnunet_folders / "MICCAI-2012-Multi-Atlas-Challenge-Data"
    cases = ("1000", "1001", "1002")
    for case in cases:
        link(real_data / f"anatomy_oasis_malf/{case}_T1.nii.gz", root / f"training-images/{case}_3.nii.gz")
        source = real_data / f"anatomy_oasis_malf/{case}_neuromorphometrics.nii.gz"
        link(source, root / f"training-labels/{case}_3_glm.nii.gz")
    folder = convert("miccai2012", root)
    names = json.loads((real_data / "anatomy_oasis_malf/labels.json").read_text())["neuromorphometrics"]
    mapped = json.loads((folder / "label_map.json").read_text())
    assert {
        raw: entry["name"] for raw, entry in mapped.items() if entry["name"] not in ("ignore", "background")
    } == names
    for case in cases:
        raw = np.asarray(nib.load(real_data / f"anatomy_oasis_malf/{case}_neuromorphometrics.nii.gz").dataobj, np.int32)
        label = np.asarray(nib.load(folder / f"labelsTr/{case}_3.nii.gz").dataobj)
        # pairs of old and new value, without the table look-up that wrote them
        pairs = [divmod(int(both), 1000) for both in np.unique(raw * 1000 + label.astype(np.int32))]
        assert all(mapped[str(value)]["label"] == new for value, new in pairs)
        assert len(pairs) == len({value for value, _ in pairs})


def test_stroke_masks_on_real_images_of_two_sites(real_data: Path, nnunet_folders: Path) -> None:
    root = nnunet_folders / "ATLAS_2"
    for i, case in enumerate(("1000", "1001", "1002", "1004")):
        stem = f"Training/R00{i % 2}/sub-r{case}/ses-1/anat/sub-r{case}_ses-1_space-MNI152NLin2009aSym"
        link(real_data / f"anatomy_oasis_malf/{case}_T1.nii.gz", root / f"{stem}_T1w.nii.gz")
        source = real_data / f"stroke_semisynthetic/{case}_lesion.nii.gz"
        link(source, root / f"{stem}_label-L_desc-T1lesion_mask.nii.gz")
    folder = convert("atlas_r2", root, "--group-by", "site", "--reorient")
    for row in rows(folder):
        case = row["subject"].removeprefix("sub-r")
        mask = nib.as_closest_canonical(nib.load(real_data / f"stroke_semisynthetic/{case}_lesion.nii.gz"))
        written = nib.load(folder / f"labelsTr/{row['case']}.nii.gz")
        np.testing.assert_array_equal(written.dataobj, mask.dataobj)
        np.testing.assert_allclose(written.affine, mask.affine, atol=1e-4)
        assert float(row["lesion_ml"]) > 0
    folds = json.loads((folder / "splits_final.json").read_text())
    site = {row["case"]: row["site"] for row in rows(folder)}
    assert [{site[case] for case in fold["val"]} for fold in folds] in ([{"R000"}, {"R001"}], [{"R001"}, {"R000"}])
