"""The demo's raw nnU-Net data sets: two for pre-training and three targets; synthetic and reproducible by seed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import atomic_folder, read_json, write_json
from nnunet_transfer.synthetic import natural, t1

#: enough subjects that the eight validation subjects distinguish a trained classifier from guessing
SOURCE_SUBJECTS = 32
TARGET_SUBJECTS = 8
#: of old subjects, share of the contrast between grey and white matter
FADING = 0.4
SOURCE_VALIDATION_SHARE = 4  # one case in four validates
TARGET_VALIDATION_SHARE = 2
FOLDS = 2
_SYNTHETIC_T1 = (
    "Synthetic: slabs deformed and re-coloured from the MNI152 average T1 template (ICBM 152 non-linear symmetric "
    "2009a, as shipped with nilearn). Not patients' data; without any clinical meaning."
)
_CROPS = (
    "Derived: crops of photos shipped with scikit-image and scikit-learn, labelled automatically by colour. "
    "No medical images."
)
_LESION = {"background": 0, "lesion": 1}

Finish = Callable[[t1.Subject, np.random.Generator], t1.Subject]


def write_natural_source(raw: Path, dataset_id: int, seed: int = 0) -> Path:
    """Write the natural-image source: RGB crops, brightness regions as labels, the photo as class.

    Returns
    -------
    The data set's folder below `raw`.
    """
    crops = natural.cut_crops(seed)
    cases = [f"{crop.photo}{i % natural.CROPS_PER_PHOTO + 1:02d}" for i, crop in enumerate(crops)]
    path = raw / f"Dataset{dataset_id:03d}_DemoNatural"
    with atomic_folder(path) as folder:
        _make_folders(folder)
        for case, crop in zip(cases, crops, strict=True):
            # nnU-Net's reader takes all three channels from one RGB file
            Image.fromarray(crop.image).save(folder / f"imagesTr/{case}_0000.png")
            Image.fromarray(crop.label).save(folder / f"labelsTr/{case}.png")
        _write_description(folder, {"0": "R", "1": "G", "2": "B"}, natural.REGIONS, len(cases), ".png", _CROPS, seed)
        _write_classes(folder, cases, [crop.photo for crop in crops])
        _write_splits(folder, cases, SOURCE_VALIDATION_SHARE)
    return path


def write_t1_source(raw: Path, dataset_id: int, seed: int = 0) -> Path:
    """Write the T1 source: tissue labels; the class is young or old, by the ventricles and the contrast of grey matter.

    Returns
    -------
    The data set's folder below `raw`.
    """
    # in runs of one stride of the split, so that every fold validates both classes
    classes = [("young", "old")[i // SOURCE_VALIDATION_SHARE % 2] for i in range(SOURCE_SUBJECTS)]
    return _write_t1(raw, dataset_id, "DemoT1", "source", seed, t1.TISSUES, None, SOURCE_VALIDATION_SHARE, classes)


def write_stroke_target(raw: Path, dataset_id: int, seed: int = 0) -> Path:
    """Write the stroke target: one large one-sided lesion per subject. Returns the data set's folder."""
    return _write_t1(raw, dataset_id, "DemoStroke", "stroke", seed, _LESION, t1.add_stroke_lesion)


def write_ms_target(raw: Path, dataset_id: int, seed: int = 0) -> Path:
    """Write the MS target: several small white-matter lesions per subject. Returns the data set's folder."""
    return _write_t1(raw, dataset_id, "DemoMS", "ms", seed, _LESION, t1.add_ms_lesions)


def write_anatomy_target(raw: Path, dataset_id: int, seed: int = 0) -> Path:
    """Write the anatomy target: CSF, grey and white matter. Returns the data set's folder."""
    return _write_t1(raw, dataset_id, "DemoAnatomy", "anatomy", seed, t1.TISSUES, None)


#: role -> default data set id and writer
DATASETS: dict[str, tuple[int, Callable[[Path, int, int], Path]]] = {
    "natural": (701, write_natural_source),
    "t1": (702, write_t1_source),
    "stroke": (711, write_stroke_target),
    "ms": (712, write_ms_target),
    "anatomy": (713, write_anatomy_target),
}


def difference(folder: Path, name: str, seed: int) -> str:
    """Describe how a folder with the id of one of `DATASETS` differs from what its writer makes; empty if it doesn't."""
    kind = folder.name.partition("_")[2]
    if not kind.startswith("Demo"):
        return f"{folder.name}, which isn't one of the demo's data sets"
    if kind.lower() != f"demo{name}":
        return f"{folder.name}, which is another of the demo's data sets"
    try:
        found = read_json(folder / "dataset.json")["seed"]
    except (DataError, KeyError, TypeError):
        found = "unknown"
    return "" if found == seed else f"{folder.name}, whose seed is {found} instead of {seed}"


def fold_sizes(name: str) -> tuple[int, list[int]]:
    """Return the number of cases of one of `DATASETS`, and of those that each of its folds validates."""
    sources = {"natural": len(natural.PHOTOS) * natural.CROPS_PER_PHOTO, "t1": SOURCE_SUBJECTS}
    cases = sources.get(name, TARGET_SUBJECTS)
    share = SOURCE_VALIDATION_SHARE if name in sources else TARGET_VALIDATION_SHARE
    return cases, [len(range(fold, cases, share)) for fold in range(FOLDS)]


def _write_t1(
    raw: Path,
    dataset_id: int,
    name: str,
    group: str,
    seed: int,
    labels: dict[str, int],
    add_lesions: Finish | None,
    share: int = TARGET_VALIDATION_SHARE,
    classes: Sequence[str] = (),
) -> Path:
    """Write one T1-like data set; `group` names the subjects and keeps their random numbers apart."""
    cases = [f"sub-{group}{i + 1:02d}" for i in range(len(classes) or TARGET_SUBJECTS)]
    path = raw / f"Dataset{dataset_id:03d}_{name}"
    with atomic_folder(path) as folder:
        _make_folders(folder)
        for i, case in enumerate(cases):
            rng = np.random.default_rng([seed, *case.encode()])
            old = classes[i] == "old" if classes else bool(rng.integers(2))
            enlargement = rng.uniform(0.35, 0.5) if old else rng.uniform(0, 0.12)
            subject = t1.make_subject(rng, enlargement=enlargement, fading=FADING if old else 0.0)
            if add_lesions:
                subject = add_lesions(subject, rng)
            _save_nifti(np.rint(subject.image).astype(np.int16), folder / f"imagesTr/{case}_0000.nii.gz")
            _save_nifti(subject.lesion if add_lesions else subject.tissue, folder / f"labelsTr/{case}.nii.gz")
        _write_description(folder, {"0": "T1"}, labels, len(cases), ".nii.gz", _SYNTHETIC_T1, seed)
        if classes:
            _write_classes(folder, cases, classes)
        _write_splits(folder, cases, share)
    return path


def _make_folders(folder: Path) -> None:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()


def _save_nifti(array: NDArray[np.generic], path: Path) -> None:
    image = nib.Nifti1Image(array, t1.AFFINE)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _write_description(
    folder: Path,
    channels: dict[str, str],
    labels: dict[str, int],
    cases: int,
    file_ending: str,
    description: str,
    seed: int,
) -> None:
    write_json(
        folder / "dataset.json",
        {
            "channel_names": channels,
            "labels": labels,
            "numTraining": cases,
            "file_ending": file_ending,
            "description": description,
            "seed": seed,
        },
    )


def _write_classes(folder: Path, cases: Sequence[str], classes: Sequence[str]) -> None:
    with open(folder / "classes.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("case", "class"))
        writer.writerows(zip(cases, classes, strict=True))


def _write_splits(folder: Path, cases: Sequence[str], share: int) -> None:
    """Write two folds; fold f validates on every `share`-th case, starting with case f. Each case is a subject."""
    folds = [cases[fold::share] for fold in range(FOLDS)]
    write_json(
        folder / "splits_final.json",
        [{"train": [c for c in cases if c not in validation], "val": list(validation)} for validation in folds],
    )
