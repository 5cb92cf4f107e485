"""Heads of nested shells, a few voxels wide."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -18], [0, 0, 2, -18], [0, 0, 0, 1]])
SHAPE = (20, 18, 18)


def radius() -> np.ndarray:
    """Return the distance of each voxel from the middle, in voxels."""
    grid = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij")
    return np.sqrt(sum(g**2 for g in grid))


def head() -> np.ndarray:
    """Return ventricle, white matter, cortex and skin as shells around one another, in SynthSeg's numbers."""
    r = radius()
    return np.select([r < 1.6, r < 5, r < 7, r < 8], [4, 2, 3, 507], 0).astype(np.uint16)


def save(path: Path, array: np.ndarray) -> None:
    """Write a volume with the usual affine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), path)
