"""Small nnU-Net data sets for tests: blobs on noise, in 2D slabs or 3D volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from skimage import io

from nnunet_transfer.discovery import __path__ as discovery_path
from nnunet_transfer.files import read_json, write_json

#: configuration -> folders, data set, plans
Prepared = dict[str, tuple[Path, str, str]]


def make_folders(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make empty nnU-Net folders and export them, with no worker processes."""
    for folder in ("raw", "preprocessed", "results"):
        (parent / folder).mkdir()
        monkeypatch.setenv(f"nnUNet_{folder}", str(parent / folder))
    monkeypatch.delenv("nnUNet_sources", raising=False)
    monkeypatch.setenv("nnUNet_extTrainer", discovery_path[0])
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setenv("nnUNet_def_n_proc", "0")
    monkeypatch.setenv("nnUNet_compile", "f")


def no_plot(_: object, output_folder: str) -> None:
    """Leave an empty file where nnU-Net would draw a training's progress: models are exported with it."""
    Path(output_folder, "progress.png").touch()


def write_blob_dataset(
    raw: Path,
    dataset_id: int,
    *,
    name: str = "Blobs",
    cases: int = 6,
    shape: tuple[int, int, int] = (32, 32, 8),
    channels: tuple[str, ...] = ("T1",),
    labels: int = 1,
    spacing: tuple[float, float, float] = (1, 1, 1),
    seed: int = 0,
) -> str:
    """Write a raw data set whose label is a bright box on noise; return its folder name.

    Parameters
    ----------
    shape : size in voxels, axes x, y, z as NIfTI stores them
    labels : number of foreground classes; class k's box is k + 1 noise levels brighter
    spacing : mm along x, y and z
    """
    folder = raw / f"Dataset{dataset_id:03d}_{name}"
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    rng = np.random.default_rng(seed)
    affine = np.diag([*spacing, 1.0])
    for i in range(cases):
        label = _boxes(rng, shape, labels)
        for c in range(len(channels)):
            image = rng.normal(10, 1, shape) + 4.0 * label
            nib.save(nib.Nifti1Image(image.astype(np.float32), affine), folder / f"imagesTr/case{i:02d}_{c:04d}.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), folder / f"labelsTr/case{i:02d}.nii.gz")
    _describe(folder, channels, labels, cases, ".nii.gz")
    return folder.name


def write_picture_dataset(raw: Path, dataset_id: int, *, cases: int, shape: tuple[int, int], labels: int) -> str:
    """Write a raw data set of pictures in colour, PNG as nnU-Net's `NaturalImage2DIO` reads them; return its folder name.

    Parameters
    ----------
    shape : rows and columns
    """
    folder = raw / f"Dataset{dataset_id:03d}_Pictures"
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    rng = np.random.default_rng(0)
    for i in range(cases):
        label = _boxes(rng, shape, labels)
        image = rng.normal(100, 10, (*shape, 3)) + 40 * label[..., None]
        io.imsave(folder / f"imagesTr/case{i:02d}_0000.png", image.clip(0, 255).astype(np.uint8), check_contrast=False)
        io.imsave(folder / f"labelsTr/case{i:02d}.png", label, check_contrast=False)
    _describe(folder, ("rgb_to_0_1",) * 3, labels, cases, ".png")
    return folder.name


def _boxes(rng: np.random.Generator, shape: tuple[int, ...], labels: int) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    for k in range(labels):
        corner = [int(rng.integers(0, max(1, n - n // 2))) for n in shape]
        label[tuple(slice(c, c + max(2, n // 3)) for c, n in zip(corner, shape, strict=True))] = k + 1
    return label


def _describe(folder: Path, channels: tuple[str, ...], labels: int, cases: int, ending: str) -> None:
    write_json(
        folder / "dataset.json",
        {
            "channel_names": {str(i): c for i, c in enumerate(channels)},
            "labels": {"background": 0, **{f"class{k + 1}": k + 1 for k in range(labels)}},
            "numTraining": cases,
            "file_ending": ending,
        },
    )


def write_splits(preprocessed_dataset: Path, folds: int = 2) -> None:
    """Write `splits_final.json` that deals the cases round-robin into folds."""
    cases = sorted(p.name.split(".")[0] for p in (preprocessed_dataset / "gt_segmentations").iterdir())
    write_json(
        preprocessed_dataset / "splits_final.json",
        [{"train": [c for i, c in enumerate(cases) if i % folds != f], "val": cases[f::folds]} for f in range(folds)],
    )


def two_folds(cases: int) -> list[dict[str, list[str]]]:
    """Splits of `case00`, `case01`, ... with one validation case in each of two folds."""
    names = [f"case{i:02d}" for i in range(cases)]
    return [{"train": names[:k] + names[k + 1 :], "val": [names[k]]} for k in range(2)]


def edit_json(path: Path, **entries: Any) -> None:
    """Replace entries of a JSON file, or add them."""
    write_json(path, read_json(path) | entries)
