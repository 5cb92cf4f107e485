"""Miniature trees of the sources, and how to convert them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nnunet_transfer.cli import main
from nnunet_transfer.dataset_conversion._natural_labels import COCO
from tests import conversion_trees as trees


def convert(dataset: str, root: Path, *options: str) -> Path:
    """Convert a tree; return the new data set's folder."""
    assert main(["convert", dataset, str(root), "-d", "4", "--name", "Source", "--processes", "1", *options]) == 0
    return root.parent / "raw/Dataset004_Source"


def refused(capsys: pytest.CaptureFixture[str], dataset: str, root: Path, *options: str) -> str:
    """Convert what can't be converted; return the message, one line."""
    assert main(["convert", dataset, str(root), "-d", "4", "--name", "Source", "--processes", "1", *options]) != 0
    assert not list((root.parent / "raw").glob("Dataset*"))
    *_, message = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in message
    return message


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (20, 16), seed: int = 0) -> NDArray[np.uint8]:
    """Write a picture of noise; return it as RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, *path.name.encode()]).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise).convert(mode)
    image.save(path)
    with Image.open(path) as stored:
        return np.asarray(stored.convert("RGB"))


def mask(path: Path, values: NDArray[np.integer], palette: bool = False) -> None:
    """Write a mask, as indices of a palette if asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if palette:
        image = image.convert("P")
        image.putdata(values.ravel().tolist())
    image.save(path)


def pixels(path: Path) -> NDArray[np.integer]:
    """Return a written PNG's pixels."""
    with Image.open(path) as image:
        return np.asarray(image)


def names(folder: Path) -> list[str]:
    """Return the files of a folder."""
    return sorted(path.name for path in folder.iterdir())


def table(path: Path) -> list[dict[str, str]]:
    """Return a CSV file's rows."""
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def coco_tree(root: Path) -> None:
    """Two pictures: a large object under a small one under nothing, and a crowd; one picture without objects."""
    for name in ("000000000009", "000000000025"):
        picture(root / f"train2017/{name}.jpg")
    square = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
    small = [4.0, 4.0, 8.0, 4.0, 8.0, 8.0, 4.0, 8.0]
    # run lengths, down the columns: the last two columns of 16 rows
    crowd = {"size": [16, 20], "counts": [18 * 16, 2 * 16]}
    objects = [
        {"id": 1, "image_id": 9, "category_id": 90, "iscrowd": 0, "area": 16, "segmentation": [small]},
        {"id": 2, "image_id": 9, "category_id": 1, "iscrowd": 0, "area": 100, "segmentation": [square]},
        {"id": 3, "image_id": 9, "category_id": 1, "iscrowd": 1, "area": 32, "segmentation": crowd},
    ]
    size = {"height": 16, "width": 20}
    images = [
        {"id": 9, "file_name": "000000000009.jpg", **size},
        {"id": 25, "file_name": "000000000025.jpg", **size},
    ]
    (root / "annotations").mkdir()
    content = {"images": images, "annotations": objects, "categories": [{"id": i, "name": n} for i, n in COCO.items()]}
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))


def camvid_tree(root: Path, value: int = 11) -> None:
    """Three frames of two drives for training, one for validation."""
    for part, name in (("train", "0001TP_1"), ("train", "0001TP_2"), ("train", "0006R0_1"), ("val", "0016E5_1")):
        picture(root / f"{part}/{name}.png")
        mask(root / f"{part}annot/{name}.png", np.arange(320).reshape(16, 20) % (value + 1))


def bids_tree(root: Path) -> None:
    """Three subjects, one with two sessions, a derivative, another modality."""
    for seed, name in enumerate(("sub-01/ses-1/anat/sub-01_ses-1_T1w", "sub-01/ses-2/anat/sub-01_ses-2_T1w")):
        trees.save(trees.image(seed), root / f"{name}.nii.gz")
    trees.save(trees.image(2), root / "sub-02/anat/sub-02_run-02_T1w.nii.gz")
    trees.save(trees.image(3), root / "sub-03/anat/sub-03_T1w.nii.gz")
    trees.save(trees.image(4), root / "sub-03/anat/sub-03_T2w.nii.gz")
    trees.save(trees.image(5), root / "derivatives/prep/sub-03/anat/sub-03_T1w.nii.gz")
    (root / "participants.tsv").write_text("participant_id\tsex\tage\nsub-01\tF\t39.9\nsub-02\tM\t40\n03\tF\tn/a\n")
