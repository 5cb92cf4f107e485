"""Masks in files, for tests of what is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image


def write_mask(array: np.ndarray, path: Path, spacing: tuple[float, ...] = (0.8, 0.9, 3.0)) -> Path:
    """Write a mask, axes (z, y, x) or (y, x), in the format of the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array.astype(np.uint8)).save(path)
        return path
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.SetSpacing(spacing[: array.ndim])
    image.SetOrigin((10.0, -20.0, 5.0)[: array.ndim])
    sitk.WriteImage(image, str(path))
    return path


def write_two_lesions(folder: Path) -> None:
    """Write masks of two lesions, the second of another label in the reference alone."""
    reference, prediction = np.zeros((2, 10, 10, 10), np.uint8)
    reference[1:3, 1:3, 1:3] = prediction[1:3, 1:3, 1:3] = 1
    reference[6:8, 6:8, 6:8] = 2
    prediction[6:8, 6:8, 6:8] = 1
    write_mask(reference, folder / "ref/a.nii.gz")
    write_mask(prediction, folder / "pred/a.nii.gz")
