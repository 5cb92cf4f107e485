"""Every data set's layout, with its traps, through conversion and into nnU-Net."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.conversion.catalogue import all_descriptions
from nnunet_transfer.conversion.plan import Options, plan_conversion
from tests import conversion_trees as trees


class Layout(NamedTuple):
    """What a tree should become.

    Attributes
    ----------
    dataset : name of the description
    tree : makes the files
    train, test : cases
    labels : number of values, background included, in the first training case
    groups : number of subjects among the training cases; None if each case is one
    options : of the command line
    """

    dataset: str
    tree: Callable[[], trees.Files]
    train: tuple[str, ...]
    test: tuple[str, ...] = ()
    labels: int = 2
    groups: int | None = None
    options: tuple[str, ...] = ()


def _numbered(template: str, *values: object) -> tuple[str, ...]:
    return tuple(template.format(value) for value in values)


_R2 = _numbered("sub-{}_ses-1", "r001s001", "r001s002", "r009s003")
_ISBI = tuple(f"training{subject:02d}_{visit:02d}" for subject in range(1, 6) for visit in (1, 2))
_FREESURFER = ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1")
_HAMMERS = ("a01", "a02", "a30")
_TWINS = ("HLN-12-7", "MMRR-21-1", "Twins-2-1", "Twins-2-2")
_WMH = ("Amsterdam-GE3T_100", "Singapore_11", "Utrecht_11")
_ANNOTATORS = ("--label-set", "other_annotators", "--rater", "observer_o4")
_COPY = ("--geometry", "copy-from-image")

LAYOUTS = (
    Layout(
        "atlas_r1",
        trees.atlas_r1,
        ("Site1_031768_t01", "Site1_031768_t02", "Site2_031768_t01", "Site3_031999_t01"),
        groups=3,
    ),
    Layout(
        "atlas_r1",
        trees.atlas_r1_new_names,
        ("c0011_c0011s0006_t01", "c0011_c0011s0007_t01", "c0012_c0012s0001_t01"),
    ),
    Layout("atlas_r2", trees.atlas_r2, _R2, ("sub-r005s001_ses-1",), labels=1),
    Layout("atlas_r3", trees.atlas_r3, _numbered("sub-r{:03d}s001_ses-1", 0, 1, 2)),
    Layout("arc", trees.arc, ("sub-M2001_ses-1253", "sub-M2002_ses-1441", "sub-M2004_ses-755")),
    Layout("soop", trees.soop, ("sub-10", "sub-2", "sub-3"), ("sub-11",)),
    Layout("ds007212", trees.ds007212, _numbered("sub-{:03d}", 1, 2, 3)),
    Layout("ms3seg", trees.ms3seg, _numbered("{:03d}", 1, 2, 3)),
    Layout("msseg2", trees.msseg2, ("013", "015", "099")),
    Layout("mslesseg", trees.mslesseg, ("P1_T1", "P1_T2", "P1_T3", "P2_T1"), ("P54_T1",), groups=2),
    Layout(
        "mslesseg",
        trees.mslesseg,
        ("P1_T1", "P1_T2", "P1_T3", "P2_T1"),
        ("P54_T1",),
        2,
        2,
        ("--channels", "T1", "FLAIR"),
    ),
    Layout("msseg2016", trees.msseg2016, _numbered("Center_{}_Patient_01", "01", "07"), ("Center_03_Patient_01",)),
    Layout("msseg2016", trees.msseg2016_flat, ("01_016SACH", "07_001MOEL", "08_002CHJE")),
    Layout("isbi2015", trees.isbi2015, _ISBI, ("test01_01",), groups=5, options=("--rater", "1")),
    Layout("ljubljana", trees.ljubljana, _numbered("patient{:02d}", 1, 2, 3)),
    Layout("wmh2017", trees.wmh2017, _WMH, ("Amsterdam-GE1T5_2",), labels=3),
    Layout("wmh2017", trees.wmh2017, _WMH, ("Amsterdam-GE1T5_2",), options=_ANNOTATORS),
    Layout("shifts_ms", trees.shifts_ms, _numbered("train_{}", 1, 2, 3), ("dev_in_1", "dev_out_1")),
    Layout("mrbrains13", trees.mrbrains13, _numbered("Training_{}", 1, 2, 3), ("Test_1",), labels=9),
    Layout(
        "mrbrains13",
        trees.mrbrains13,
        _numbered("Training_{}", 1, 2, 3),
        ("Test_1",),
        4,
        None,
        ("--label-set", "tissues"),
    ),
    Layout("mrbrains18", trees.mrbrains18, ("070", "1", "4"), labels=10),
    Layout("ibsr18", trees.ibsr18, _numbered("IBSR_{:02d}", 1, 2, 3), labels=4),
    Layout("ibsr18", trees.ibsr18, _numbered("IBSR_{:02d}", 1, 2, 3), (), 7, None, ("--label-set", "structures")),
    Layout("neurite_oasis", trees.neurite_oasis, _numbered("OASIS_OAS1_{:04d}", 1, 3, 457), labels=35),
    Layout("neurite_oasis", trees.learn2reg_oasis, _numbered("OASIS_{:04d}", 1, 2, 3), ("OASIS_0400",), labels=36),
    Layout("mindboggle101", trees.mindboggle101, _TWINS, labels=6, groups=3),
    Layout("mindboggle101", trees.mindboggle101, _TWINS, (), 6, 3, ("--label-set", "DKT31+aseg")),
    Layout("freesurfer", trees.freesurfer, _FREESURFER, labels=7, groups=2, options=("--label-set", "aseg")),
    Layout("freesurfer", trees.freesurfer, _FREESURFER, (), 7, 2, ("--label-set", "aparc+aseg", "--reorient")),
    Layout("freesurfer", trees.freesurfer, _FREESURFER, (), 6, 2, ("--label-set", "wmparc", "--channels", "T1-norm")),
    Layout("hammers", trees.hammers, _HAMMERS, labels=96, options=_COPY),
    Layout("hammers", trees.hammers_folders, _HAMMERS, labels=3),
    Layout("miccai2012", trees.miccai2012, _numbered("{}_3", 1000, 1001, 1002), ("1003_3", "1003_4"), labels=5),
)


def _name(layout: Layout) -> str:
    return "-".join([layout.tree.__name__, *(option.strip("-") for option in layout.options)])


@pytest.fixture
def converted(request: pytest.FixtureRequest, nnunet_folders: Path) -> tuple[Layout, Path]:
    """A converted tree: its layout and the new data set."""
    layout: Layout = request.param
    root = trees.write_tree(layout.tree(), nnunet_folders / "source")
    assert main(["convert", layout.dataset, str(root), "-d", "4", "--processes", "1", *layout.options]) == 0
    (folder,) = (nnunet_folders / "raw").iterdir()
    return layout, folder


every_layout = pytest.mark.parametrize("converted", LAYOUTS, ids=_name, indirect=True)


def _stems(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name.removesuffix(".nii.gz") for path in folder.iterdir())) if folder.is_dir() else ()


def _manifest(folder: Path) -> list[dict[str, str]]:
    with open(folder / "conversion_manifest.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_target_has_a_layout_here() -> None:
    volumes = {name for name, description in all_descriptions().items() if description.layouts}
    assert {layout.dataset for layout in LAYOUTS} <= volumes
    assert volumes - {layout.dataset for layout in LAYOUTS} <= {"t1_bids", "t1_folder"}


@every_layout
def test_a_tree_becomes_a_data_set_that_nnunet_takes(converted: tuple[Layout, Path]) -> None:
    from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    from nnunet_transfer._nnunet import extract_fingerprint_in_process

    layout, folder = converted
    channels = 2 if "FLAIR" in layout.options or layout.dataset == "msseg2" else 1
    assert _stems(folder / "labelsTr") == layout.train
    numbers = range(channels)
    assert _stems(folder / "imagesTr") == tuple(f"{case}_{i:04d}" for case in layout.train for i in numbers)
    assert _stems(folder / "imagesTs") == tuple(f"{case}_{i:04d}" for case in layout.test for i in numbers)

    # as nnUNetv2_plan_and_preprocess --verify_dataset_integrity checks, without its worker processes
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["numTraining"] == len(layout.train)
    assert list(dataset["labels"].values()) == list(range(len(dataset["labels"])))
    manager = LabelManager(dataset["labels"], None)
    allowed = [*manager.all_labels, *([manager.ignore_label] if manager.has_ignore_label else [])]
    for case in layout.train:
        label = str(folder / f"labelsTr/{case}.nii.gz")
        images = [str(folder / f"imagesTr/{case}_{i:04d}.nii.gz") for i in numbers]
        assert verify_labels(label, SimpleITKIO, allowed)
        assert check_cases(images, label, channels, SimpleITKIO)
    assert len(np.unique(nib.load(folder / f"labelsTr/{layout.train[0]}.nii.gz").dataobj)) == layout.labels
    fingerprint = json.loads(
        (extract_fingerprint_in_process(4, foreground_voxels=100) / "dataset_fingerprint.json").read_text()
    )
    assert len(fingerprint["shapes_after_crop"]) == len(layout.train)


@pytest.mark.parametrize(
    ("dataset", "tree", "within", "cases"),
    [
        ("atlas_r2", trees.atlas_r2, "ATLAS_2", 4),
        ("atlas_r2", trees.atlas_r2, "ATLAS_2/Training", 3),
        ("atlas_r2", trees.atlas_r2, "ATLAS_2/Training/R001", 2),
        ("wmh2017", trees.wmh2017, "wmh/training/Utrecht", 1),
        ("miccai2012", trees.miccai2012, "MICCAI-2012-Multi-Atlas-Challenge-Data", 5),
        ("freesurfer", trees.freesurfer, "subjects/sub-02_ses-1", 1),
    ],
)
def test_any_folder_above_or_within_the_data_set_will_do(
    dataset: str, tree: Callable[[], trees.Files], within: str, cases: int, nnunet_folders: Path
) -> None:
    root = trees.write_tree(tree(), nnunet_folders / "deep/source")
    folders = [root.parent, root, root / within] if within.count("/") == 0 else [root / within]
    for folder in folders:
        plan = plan_conversion(all_descriptions()[dataset], folder, 4, Options())
        assert len(plan.cases) == cases
        assert not plan.found.problems


@every_layout
def test_folds_keep_subjects_together(converted: tuple[Layout, Path]) -> None:
    layout, folder = converted
    folds = json.loads((folder / "splits_final.json").read_text())
    subject = {row["case"]: row["subject"] for row in _manifest(folder) if row["split"] == "train"}
    assert len(set(subject.values())) == (layout.groups or len(layout.train)) == len(folds)
    assert sorted(case for fold in folds for case in fold["val"]) == list(layout.train)
    for fold in folds:
        assert sorted([*fold["train"], *fold["val"]]) == list(layout.train)
        assert {subject[c] for c in fold["train"]}.isdisjoint(subject[c] for c in fold["val"])


@every_layout
def test_images_keep_their_voxels_and_places(converted: tuple[Layout, Path]) -> None:
    layout, folder = converted
    rows = {row["case"]: row for row in _manifest(folder)}
    for case in (*layout.train, *layout.test):
        first = rows[case]["source_files"].split(" | ")[0]
        source = nib.as_closest_canonical(nib.load(folder.parents[1] / "source" / first))
        part = "Tr" if case in layout.train else "Ts"
        written = nib.as_closest_canonical(nib.load(folder / f"images{part}/{case}_0000.nii.gz"))
        np.testing.assert_array_equal(np.squeeze(source.dataobj), written.dataobj)
        np.testing.assert_allclose(source.affine, written.affine, atol=1e-4)
