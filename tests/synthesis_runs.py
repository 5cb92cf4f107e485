"""Small label maps, masks of lesions and a real data set, and the settings of syntheses from them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from nnunet_transfer.files import write_json
from nnunet_transfer.synthetic.settings import Settings
from tests.synthetic_heads import SHAPE, head, radius, save


def write_inputs(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write three label maps, six donors of two kinds, a real data set of two subjects; return their folder."""
    monkeypatch.setenv("nnUNet_raw", str(root / "raw"))
    (root / "raw").mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        save(root / f"maps/seg_{name}.nii.gz", np.roll(head(), ord(name) - 98, axis=1))
    centres = rng.uniform(4, 7, (6, 3)) * rng.choice([-1, 1], (6, 3)) / np.sqrt(3)
    for i, centre in enumerate(centres):
        grid = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij")
        near = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < 6
        folder = "stroke" if i < 4 else "ms"
        save(root / f"{folder}/soop_{i:04d}_lesion.nii.gz", near.astype(np.uint8))
    real = root / "raw/Dataset012_Anatomy"
    for i in range(4):
        labels = np.select([radius() < 1.6, radius() < 5, radius() < 7], [3, 1, 2], 0).astype(np.uint8)
        noise = rng.normal(0, 10, SHAPE)
        image = (np.select([labels == 1, labels == 2, labels == 3], [800, 500, 200], 0) + noise * (labels > 0)).astype(
            np.int16
        )
        save(real / f"imagesTr/sub-{i // 2}_ses-{i}_0000.nii.gz", image)
        save(real / f"labelsTr/sub-{i // 2}_ses-{i}.nii.gz", labels)
    names = {"background": 0, "white matter": 1, "cortex": 2, "ventricles": 3}
    content = {"channel_names": {"0": "T1"}, "labels": names, "numTraining": 4, "file_ending": ".nii.gz"}
    write_json(real / "dataset.json", content | {"licence": "CC BY 4.0"})
    return root


def settings(root: Path, **changes: Any) -> Settings:
    """Return the usual settings: four images from the label maps, with lesions of both kinds."""
    lesions = (f"stroke={root / 'stroke'}", f"ms={root / 'ms'}")
    usual = {"labels": str(root / "maps"), "dataset_id": 31, "count": 4, "lesions": lesions, "mask_space": "image"}
    return Settings(**(usual | changes))


def real_settings(root: Path, **changes: Any) -> Settings:
    """Return the usual settings for lesions pasted into the real data set."""
    return settings(root, labels="12", images="real", dataset_id=33, **changes)


def bytes_of(folder: Path) -> dict[str, str]:
    """Return path -> checksum of all files below a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def load(path: Path) -> np.ndarray:
    """Return the voxels of an image, in the type in which they are stored."""
    return np.asanyarray(nib.load(path).dataobj)
