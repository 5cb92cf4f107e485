"""What is found of the sources: natural images behind links, sessions in tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.source_trees import bids_tree, coco_tree, convert, mask, names, picture, refused, table


@pytest.fixture
def root(nnunet_folders: Path) -> Path:
    """Where the tree goes."""
    folder = nnunet_folders / "source"
    folder.mkdir()
    return folder


def test_sessions_that_names_do_not_tell_are_said_to_be_unknown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bids_tree(root)
    (root / "people.tsv").write_text("participant_id\tses\tage\nsub-01\t1\t40\nsub-01\t2\t41\nsub-02\t1\t9\n")
    options = ("--option", "class=age", f"table={root / 'people.tsv'}", "missing=leave-out")
    message = refused(capsys, "t1_folder", root, *options)
    assert "40 (line 2), 41 (line 3); the case's session is unknown: t1_bids reads it from BIDS names" in message
    assert len(table(convert("t1_bids", root, *options) / "classes.csv")) == 3


def a_set_of(dataset: str, folder: Path) -> None:
    """Write a picture of a data set, and its mask if it has one, where the data set's publisher puts them."""
    place = {
        "ade20k": ("images/training/a.jpg", "annotations/training/a.png"),
        "camvid": ("train/a.png", "trainannot/a.png"),
        "voc2012": ("JPEGImages/a.jpg", "SegmentationClass/a.png"),
    }
    if dataset == "cifar10":
        np.savez(folder / "c.npz", x_train=np.full((2, 32, 32, 3), [[[[1]]], [[[9]]]], np.uint8), y_train=[0, 1])
    elif dataset == "coco2017":
        coco_tree(folder)
    else:
        image, label = place[dataset]
        picture(folder / image)
        mask(folder / label, np.arange(320).reshape(16, 20) % 11)
    if dataset == "voc2012":
        (folder / "ImageSets/Segmentation").mkdir(parents=True)
        (folder / "ImageSets/Segmentation/train.txt").write_text("a\n")


@pytest.mark.parametrize("dataset", ["ade20k", "camvid", "cifar10", "coco2017", "voc2012"])
def test_natural_images_are_found_behind_links(dataset: str, root: Path) -> None:
    if dataset == "coco2017":
        pytest.importorskip("pycocotools", reason="pycocotools, the extra coco, is not installed")
    store = root.parent / "store"
    store.mkdir()
    a_set_of(dataset, store)
    (root / "linked").symlink_to(store)
    assert names(convert(dataset, root) / "imagesTr")
