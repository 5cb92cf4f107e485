"""Results of made-up arms as nnU-Net leaves them, for tests of the comparison."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_transfer.files import write_json

DATASET = "Dataset801_Blobs"
PLANS, CONFIGURATION = "nnUNetPlans_demo", "2d"
SHAPE = (24, 20, 6)
CASES = [f"sub-{i:02d}" for i in range(8)]
QUALITY = {"nnUNetTrainerScratch": 0.5, "nnUNetTrainerT1Segmentation": 0.9, "nnUNetTrainerNaturalClassification": 0.6}


def save_mask(mask: np.ndarray, path: Path) -> None:
    """Write an array as NIfTI with voxels of 1 x 1 x 3 mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), np.diag([1.0, 1.0, 3.0, 1.0])), path)


def model_folder(folders: Path, arm: str) -> Path:
    """Where nnU-Net puts the results of an arm."""
    return folders / "results" / DATASET / f"{arm}__{PLANS}__{CONFIGURATION}"


def validation_folder(folders: Path, arm: str, fold: int) -> Path:
    """Where nnU-Net puts the predictions of a fold."""
    return model_folder(folders, arm) / f"fold_{fold}" / "validation"


def write_results(folders: Path, quality: dict[str, float], cases: list[str] = CASES, n_folds: int = 2) -> None:
    """Write references, images, splits and the predictions of arms; a better arm keeps more of the reference."""
    rng = np.random.default_rng(1)
    preprocessed = folders / "preprocessed" / DATASET
    dataset_json = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    write_json(preprocessed / "dataset.json", dataset_json)
    fold_of = {case: (i + 1) % n_folds for i, case in enumerate(cases)}
    splits = [
        {"train": [c for c in cases if fold_of[c] != k], "val": [c for c in cases if fold_of[c] == k]}
        for k in range(n_folds)
    ]
    write_json(preprocessed / "splits_final.json", splits)
    for case in cases:
        reference = np.zeros(SHAPE, bool)
        corner = rng.integers(1, 8, 3) % [8, 8, 2]
        reference[tuple(slice(c, c + n) for c, n in zip(corner, (9, 7, 4), strict=True))] = True
        save_mask(reference, preprocessed / "gt_segmentations" / f"{case}.nii.gz")
        save_mask(rng.normal(100, 5, SHAPE) - 40 * reference, folders / f"raw/{DATASET}/imagesTr/{case}_0000.nii.gz")
        for arm, share in quality.items():
            kept = reference & (rng.random(SHAPE) < share)
            save_mask(kept, validation_folder(folders, arm, fold_of[case]) / f"{case}.nii.gz")
    for arm in quality:
        write_json(model_folder(folders, arm) / "dataset.json", dataset_json)
