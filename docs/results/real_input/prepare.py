"""Build the studies' data sets in nnU-Net's raw format from public real images.

    python prepare.py DATA STROKE_T1 MS_T1 WORK

DATA holds the folders named in the write-up, STROKE_T1 and MS_T1 the volumes that `make_semisynthetic_stroke.py` and
`make_semisynthetic_ms.py` wrote. For the 2D studies volumes are cut to every n-th axial slice and to every second voxel
in the slice, for the 3D table to every third voxel along each axis; natural images are halved or doubled. Images that
several data sets share are hard links.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from nnunet_transfer.files import read_json, write_json, write_text


@dataclass(frozen=True)
class Case:
    """A case: how to write its image and, where there is one, its label; and what its fold and class follow from.

    `more` writes the other channels, on the grid of the first.
    """

    name: str
    image: Callable[[Path], None]
    label: Callable[[Path], None] | None = None
    subject: str = ""
    group: str = ""
    more: tuple[Callable[[Path], None], ...] = ()


def write_dataset(
    raw: Path,
    folder_name: str,
    cases: Sequence[Case],
    *,
    channels: Sequence[str],
    labels: Mapping[str, int],
    ending: str,
    folds: int,
    description: str,
    splits: Sequence[Mapping[str, Sequence[str]]] = (),
) -> None:
    """Write one data set with the given splits, or with folds that keep subjects together and spread the groups."""
    folder = raw / folder_name
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for case in cases:
        image = folder / "imagesTr" / f"{case.name}_0000{ending}"
        case.image(image)
        for channel, write in enumerate(case.more, start=1):
            write(folder / "imagesTr" / f"{case.name}_{channel:04d}{ending}")
        (case.label or foreground_of(image))(folder / "labelsTr" / f"{case.name}{ending}")
    write_json(
        folder / "dataset.json",
        {
            "channel_names": {str(i): c for i, c in enumerate(channels)},
            "labels": dict(labels),
            "numTraining": len(cases),
            "file_ending": ending,
            "description": description,
        },
    )
    if all(case.group for case in cases):
        rows = "".join(f"{case.name},{case.group}\n" for case in cases)
        write_text(folder / "classes.csv", f"case,class\n{rows}")
    fold_of = deal_subjects(cases, folds)
    numbers = [fold_of[case.subject or case.name] for case in cases]
    write_json(
        folder / "splits_final.json",
        list(splits)
        or [
            {
                "train": [c.name for c, n in zip(cases, numbers, strict=True) if n != fold],
                "val": [c.name for c, n in zip(cases, numbers, strict=True) if n == fold],
            }
            for fold in range(folds)
        ],
    )


def deal_subjects(cases: Iterable[Case], folds: int) -> dict[str, int]:
    """Deal the subjects into folds one by one, group after group, so that every fold has its share of each."""
    group_of = {case.subject or case.name: case.group for case in cases}
    ordered = sorted(group_of, key=lambda subject: (group_of[subject], subject))
    return {subject: i % folds for i, subject in enumerate(ordered)}


def every_slice(
    path: Path, step: int, dtype: type, slab: tuple[int, int] = (0, 1), inplane: int = 2
) -> Callable[[Path], None]:
    """Return a writer of every `step`-th axial slice of a volume, in RAS order.

    Parameters
    ----------
    slab : (k, n) keeps the k-th of n equal slabs from bottom to top
    inplane : every how many voxels are kept along x and y
    """

    def write(target: Path) -> None:
        image = nib.as_closest_canonical(nib.load(path)).slicer[::inplane, ::inplane, ::step]
        number, slabs = slab
        edges = np.linspace(0, image.shape[2], slabs + 1).round().astype(int)
        image = image.slicer[:, :, edges[number] : edges[number + 1]]
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj).astype(dtype), image.affine), target)

    return write


def foreground_of(image: Path) -> Callable[[Path], None]:
    """Return a writer of a label that marks all of an unlabelled image: nnU-Net's fingerprint needs a foreground."""

    def write(target: Path) -> None:
        if image.suffix == ".png":
            Image.fromarray(np.ones(Image.open(image).size[::-1], np.uint8)).save(target)
            return
        volume = nib.load(image)
        nib.save(nib.Nifti1Image((np.asarray(volume.dataobj) > 0).astype(np.uint8), volume.affine), target)

    return write


def link_to(source: Path) -> Callable[[Path], None]:
    """Return a writer that hard-links an image of another data set."""
    return lambda target: os.link(source, target)


def picture(array: np.ndarray, size: tuple[int, int], *, smooth: bool) -> Callable[[Path], None]:
    """Return a writer of a PNG of (width, height)."""
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return lambda target: Image.fromarray(array).resize(size, how).save(target)


RGB = ("R", "G", "B")
UNLABELLED = {"background": 0, "image": 1}


def natural_sources(data: Path, raw: Path) -> None:
    """Write CIFAR-10 (classes), CamVid (11 labels and void) and both without labels."""
    cifar = np.load(data / "natural_cifar10" / "cifar10_subset.npz")
    classes = [str(c) for c in cifar["classes"]]
    cases = [
        Case(f"cifar{i:04d}", picture(x, (64, 64), smooth=True), group=classes[int(y)])
        for i, (x, y) in enumerate(zip(cifar["x_train"], cifar["y_train"].ravel(), strict=True))
        if i % 2
    ]
    options = {"channels": RGB, "ending": ".png", "folds": 5}
    write_dataset(
        raw, "Dataset301_CIFAR10", cases, labels=UNLABELLED, description="CIFAR-10 subset, doubled to 64x64", **options
    )
    camvid = []
    for path in sorted([*(data / "natural_camvid").glob("train/*.jpg"), *(data / "natural_camvid").glob("val/*.jpg")]):
        label = path.parent.with_name(path.parent.name + "annot") / f"{path.stem}.png"
        name = f"camvid_{path.stem}"
        image = picture(np.asarray(Image.open(path).convert("RGB")), (160, 120), smooth=True)
        camvid.append(Case(name, image, picture(np.asarray(Image.open(label)), (160, 120), smooth=False)))
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    # nnU-Net wants 0 to be called background; here it is the sky
    labels = {"background" if i == 0 else n: i for i, n in enumerate(names)} | {"ignore": 11}
    write_dataset(raw, "Dataset302_CamVid", camvid, labels=labels, description="CamVid subset, 160x120", **options)
    both = [
        Case(path.name.removesuffix("_0000.png"), link_to(path))
        for folder in ("Dataset301_CIFAR10", "Dataset302_CamVid")
        for path in sorted((raw / folder / "imagesTr").iterdir())
    ]
    write_dataset(
        raw,
        "Dataset303_NaturalUnlabelled",
        both,
        labels=UNLABELLED,
        description="301 and 302 without labels",
        **options,
    )


LESION = {"background": 0, "lesion": 1}
#: the T1 classifier tells from which of so many slabs of a brain an image comes
SLABS = 5
#: of 11 subjects of group test, 8 for training
TARGET_FOLDS = 4


def t1_sets(data: Path, stroke: Path, ms_t1: Path, raw: Path) -> None:
    """Write the T1 sources (subjects of group train) and the targets (subjects of group test; all MS sessions)."""
    oasis = data / "anatomy_oasis_malf"
    with open(oasis / "participants.tsv", encoding="utf-8") as stream:
        people = list(csv.DictReader(stream, delimiter="\t"))
    train = [p["id"] for p in people if p["miccai2012_group"] == "train"]
    test = [p["id"] for p in people if p["miccai2012_group"] == "test"]
    names = read_json(oasis / "labels.json")["anat16"]
    anatomy = {"background" if k == "0" else names[k]: int(k) for k in names}
    options = {"channels": ("T1",), "ending": ".nii.gz"}

    def case(number: str, images: Path, masks: Path, ending: str, step: int, inplane: int = 2) -> Case:
        return Case(
            f"sub-{number}",
            every_slice(images / f"{number}_T1.nii.gz", step, np.int16, inplane=inplane),
            every_slice(masks / f"{number}_{ending}.nii.gz", step, np.uint8, inplane=inplane),
        )

    def anatomies(numbers: Sequence[str], step: int = 4, inplane: int = 2) -> list[Case]:
        return [case(number, oasis, oasis, "anat16", step, inplane) for number in numbers]

    def strokes(step: int = 4, inplane: int = 2) -> list[Case]:
        return [case(number, stroke, stroke, "lesion", step, inplane) for number in test]

    source, target = "OASIS, group train, 16 structures", "OASIS, group test, 16 structures"
    made = "SEMI-SYNTHETIC stroke lesions in OASIS T1, group test"
    write_dataset(
        raw, "Dataset312_OASISAnatomy", anatomies(train), labels=anatomy, folds=5, description=source, **options
    )
    slabs = [
        Case(
            f"sub-{number}_slab-{slab}",
            every_slice(oasis / f"{number}_T1.nii.gz", 4, np.int16, (slab, SLABS)),
            subject=number,
            group=f"slab{slab}",
        )
        for number in train
        for slab in range(SLABS)
    ]
    position = [
        {
            role: [c.name for c in slabs if (train.index(c.subject) % 5 == 0) == (role == "val")]
            for role in ("train", "val")
        }
    ]
    description = "OASIS, group train, from which of 5 axial slabs"
    write_dataset(
        raw,
        "Dataset311_OASISSlabs",
        slabs,
        labels=UNLABELLED,
        folds=1,
        description=description,
        splits=position,
        **options,
    )
    images = raw / "Dataset312_OASISAnatomy" / "imagesTr"
    unlabelled = [Case(f"sub-{number}", link_to(images / f"sub-{number}_0000.nii.gz")) for number in train]
    for path in sorted((data / "ms_t1_unlabelled").glob("*_T1.nii.gz")):
        name = path.name.removesuffix("_T1.nii.gz")
        unlabelled.append(Case(name, every_slice(path, 3, np.int16), subject=name.rsplit("_", 1)[0]))
    description = "OASIS, group train, and MS scans without labels"
    write_dataset(
        raw, "Dataset313_T1Unlabelled", unlabelled, labels=UNLABELLED, folds=5, description=description, **options
    )
    lesions = {**options, "labels": LESION}
    write_dataset(raw, "Dataset321_StrokeSemisynthetic", strokes(), folds=TARGET_FOLDS, description=made, **lesions)
    write_dataset(
        raw,
        "Dataset322_MS",
        ms_sessions(data / "ms_lesions"),
        folds=4,
        description="MSLesSeg and 3D-MR-MS, T1 and FLAIR",
        # lesions of the white matter are seen in FLAIR; the sources' T1 weights go to the channel of that name
        **{**lesions, "channels": ("T1", "FLAIR")},
    )
    write_dataset(
        raw,
        "Dataset323_Anatomy",
        anatomies(test),
        labels=anatomy,
        folds=TARGET_FOLDS,
        description=target,
        **options,
    )
    write_dataset(
        raw,
        "Dataset324_MSSemisynthetic",
        [case(number, ms_t1, ms_t1, "lesion", 2) for number in test],
        folds=TARGET_FOLDS,
        description="SEMI-SYNTHETIC MS lesions in OASIS T1, group test",
        **lesions,
    )
    # the same at 3 mm
    write_dataset(
        raw, "Dataset332_OASISAnatomy3D", anatomies(train, 3, 3), labels=anatomy, folds=5, description=source, **options
    )
    write_dataset(
        raw, "Dataset341_StrokeSemisynthetic3D", strokes(3, 3), folds=TARGET_FOLDS, description=made, **lesions
    )
    write_dataset(
        raw,
        "Dataset343_Anatomy3D",
        anatomies(test, 3, 3),
        labels=anatomy,
        folds=TARGET_FOLDS,
        description=target,
        **options,
    )


def ms_sessions(folder: Path) -> list[Case]:
    """Return the real MS sessions, with T1 and FLAIR."""
    with open(folder / "cases.tsv", encoding="utf-8") as stream:
        sessions = list(csv.DictReader(stream, delimiter="\t"))
    return [
        Case(
            f"sub-{s['patient'].removeprefix('patient')}_ses-{s['timepoint']}",
            every_slice(folder / f"{s['case']}_T1.nii.gz", 2, np.int16),
            every_slice(folder / f"{s['case']}_lesion.nii.gz", 2, np.uint8),
            subject=s["patient"],
            more=(every_slice(folder / f"{s['case']}_FLAIR.nii.gz", 2, np.int16),),
        )
        for s in sessions
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("stroke_t1", type=Path)
    parser.add_argument("ms_t1", type=Path)
    parser.add_argument("work", type=Path)
    args = parser.parse_args()
    raw = args.work / "nnUNet_raw"
    raw.mkdir(parents=True)
    natural_sources(args.data, raw)
    t1_sets(args.data, args.stroke_t1, args.ms_t1, raw)


if __name__ == "__main__":
    main()
