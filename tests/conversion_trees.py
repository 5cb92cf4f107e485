"""Miniature trees laid out like the public data sets, with their traps."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

SHAPE = (12, 13, 8)
#: left-posterior-superior axes, anisotropic, away from the origin
AFFINE = np.array([[-1.0, 0, 0, 40], [0, -1, 0, 30], [0, 0, 2, -20], [0, 0, 0, 1]])
RAS = np.diag([1.0, 1, 2, 1])


def image(seed: int = 0, shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32) -> NDArray[Any]:
    """Draw noise."""
    return np.random.default_rng(seed).uniform(1, 100, shape).astype(dtype)


def box(value: float = 1, start: int = 2, size: int = 3, dtype: Any = np.uint8) -> NDArray[Any]:
    """Return a mask that is `value` in a cube and 0 elsewhere."""
    mask = np.zeros(SHAPE, dtype)
    mask[start : start + size, start : start + size, start : start + size] = value
    return mask


def stripes(*values: int, dtype: Any = np.int16) -> NDArray[Any]:
    """Return a label volume whose values alternate along the first axis, 0 first."""
    lookup = np.array([0, *values], dtype)
    index = np.arange(SHAPE[0] * SHAPE[1]) % len(lookup)
    return np.broadcast_to(lookup[index].reshape(SHAPE[:2])[..., None], SHAPE).copy()


def save(data: NDArray[Any], path: Path, affine: NDArray[np.float64] = AFFINE) -> Path:
    """Write a volume; the format follows from the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = nib.MGHImage if path.name.endswith((".mgz", ".mgh")) else nib.Nifti1Image
    nib.save(kind(data, affine), path)
    return path


def damage(path: Path, kind: str) -> None:
    """Spoil a compressed file: "truncated" (half of it is missing), "text", "cut header" or "short" (voxels missing)."""
    stored = path.read_bytes()
    plain = gzip.decompress(stored)
    path.write_bytes(
        {
            "truncated": stored[: len(stored) // 2],
            "corrupt": stored[:300] + bytes(64) + stored[364:],
            "text": b"this is not an image\n",
            "cut header": gzip.compress(plain[:100]),
            "short": gzip.compress(plain[:-100]),
        }[kind]
    )


def atlas_r2(root: Path) -> Path:
    """Two sites, hidden files, an empty mask, test cases without masks."""
    for i, (site, subject) in enumerate([("R001", "r001s001"), ("R001", "r001s002"), ("R009", "r009s003")]):
        folder = root / f"ATLAS_2/Training/{site}/sub-{subject}/ses-1/anat"
        stem = f"sub-{subject}_ses-1_space-MNI152NLin2009aSym"
        save(image(i), folder / f"{stem}_T1w.nii.gz")
        save(box(i % 2), folder / f"{stem}_label-L_desc-T1lesion_mask.nii.gz")
        (folder / ".DS_Store").write_bytes(b"x")
        (folder / f"._{stem}_T1w.nii.gz").write_bytes(b"x")
    save(
        image(9),
        root
        / "ATLAS_2/Testing/R005/sub-r005s001/ses-1/anat"
        / "sub-r005s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz",
    )
    return root / "ATLAS_2"
