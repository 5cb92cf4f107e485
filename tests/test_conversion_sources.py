"""The sources of natural images, and what holds for all: from miniature trees with their traps into nnU-Net."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from nnunet_transfer.cli import main
from nnunet_transfer.conversion.case_pictures import write_png
from nnunet_transfer.dataset_conversion._natural_labels import ADE20K, CAMVID, COCO, VOC
from tests.source_trees import bids_tree, camvid_tree, coco_tree, convert, mask, names, picture, pixels, refused, table


@pytest.fixture
def root(nnunet_folders: Path) -> Path:
    """Where the tree goes."""
    folder = nnunet_folders / "source"
    folder.mkdir()
    return folder


def test_imagenet_with_its_grey_and_cmyk_pictures(root: Path) -> None:
    expected = {
        "n01440764_1": picture(root / "train/n01440764/n01440764_1.JPEG"),
        "n01440764_2": picture(root / "train/n01440764/n01440764_2.JPEG", "L"),
        "n02110185_1": picture(root / "train/n02110185/n02110185_1.JPEG", "CMYK"),
    }
    picture(root / "train/n02110185/.hidden.JPEG")
    picture(root / "val/ILSVRC2012_val_1.JPEG")
    folder = convert("imagefolder", root)
    written = names(folder / "imagesTr")
    assert len(written) == 3
    for name, rgb in expected.items():
        (file,) = [file for file in written if name in file]
        np.testing.assert_array_equal(pixels(folder / "imagesTr" / file), rgb)
    assert len(names(folder / "imagesTs")) == 1
    assert [row["class"] for row in table(folder / "classes.csv")] == ["n01440764", "n01440764", "n02110185"]
    assert json.loads((folder / "dataset.json").read_text())["channel_names"] == {"0": "R", "1": "G", "2": "B"}


def test_pictures_of_one_name_in_two_classes_are_two_cases(root: Path) -> None:
    for name in ("cat", "dog"):
        picture(root / name / "1.png", seed=len(name) + ord(name[0]))
    folder = convert("imagefolder", root)
    assert {row["case"]: row["class"] for row in table(folder / "classes.csv")}.keys() == {"cat_1", "dog_1"}


def test_voc_reads_indices_and_ignores_outlines(root: Path) -> None:
    values = np.zeros((16, 20), np.int64)
    values[4:8, 4:8], values[3, 3:9] = 20, 255
    top = root / "VOCdevkit/VOC2012"
    for part, name in (("train", "2007_000032"), ("val", "2007_000033")):
        (top / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (top / f"ImageSets/Segmentation/{part}.txt").write_text(name + "\n")
        picture(top / f"JPEGImages/{name}.jpg")
        mask(top / f"SegmentationClass/{name}.png", values, palette=True)
    picture(top / "JPEGImages/2008_000001.jpg")  # of another task
    folder = convert("voc2012", root)
    written = pixels(folder / "labelsTr/2007_000032.png")
    np.testing.assert_array_equal(written, np.where(values == 255, 21, values))
    labels = json.loads((folder / "dataset.json").read_text())["labels"]
    assert (labels["aeroplane"], labels["tvmonitor"], labels["ignore"]) == (1, 20, 21)
    assert names(folder / "labelsTs") == ["2007_000033.png"]
    again = convert("voc2012", root, "--option", "train=trainval", "--overwrite")
    assert len(names(again / "imagesTr")) == 2


def test_coco_closes_the_gaps_of_its_ids(root: Path) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools, the extra coco, is not installed")
    coco_tree(root)
    folder = convert("coco2017", root)
    written = pixels(folder / "labelsTr/train_000000000009.png")
    assert written[3, 3] == 1
    assert written[5, 5] == 80, "category 90 is the 80th; small objects lie on large ones"
    assert written[0, 19] == 81, "crowds are ignored"
    assert written[15, 0] == 0
    assert not pixels(folder / "labelsTr/train_000000000025.png").any()


def test_ade20k_ignores_what_belongs_to_no_class(root: Path) -> None:
    values = np.arange(16 * 20).reshape(16, 20) % 151
    top = root / "ADEChallengeData2016"
    for part, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        picture(top / f"images/{part}/{name}.jpg")
        mask(top / f"annotations/{part}/{name}.png", values)
    folder = convert("ade20k", root)
    written = pixels(folder / "labelsTr/ADE_train_00000001.png")
    np.testing.assert_array_equal(written, np.where(values == 0, 151, values))
    kept = convert("ade20k", root, "--label-set", "with_background", "--overwrite")
    np.testing.assert_array_equal(pixels(kept / "labelsTr/ADE_train_00000001.png"), values)


def test_camvid_has_sky_at_zero(root: Path) -> None:
    camvid_tree(root)
    folder = convert("camvid", root)
    values = np.arange(320).reshape(16, 20) % 12
    np.testing.assert_array_equal(pixels(folder / "labelsTr/0001TP_1.png"), values + 1)
    labels = json.loads((folder / "dataset.json").read_text())["labels"]
    assert (labels["sky"], labels["bicyclist"], labels["ignore"]) == (1, 11, 12)
    for fold in json.loads((folder / "splits_final.json").read_text()):
        assert not {name[:6] for name in fold["train"]} & {name[:6] for name in fold["val"]}
    # a picture that is an RGB PNG already is taken as it is
    assert (folder / "imagesTr/0001TP_1_0000.png").read_bytes() == (root / "train/0001TP_1.png").read_bytes()


def test_an_unknown_value_is_an_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    camvid_tree(root, 12)
    assert "12" in refused(capsys, "camvid", root)


@pytest.fixture
def cifar() -> tuple[NDArray[np.uint8], list[int]]:
    """Twelve pictures, class numbers."""
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8), [i % 10 for i in range(12)]


@pytest.mark.parametrize("kind", ["python", "npz"])
def test_cifar10_in_both_formats(root: Path, kind: str, cifar: tuple[NDArray[np.uint8], list[int]]) -> None:
    data, classes = cifar
    if kind == "npz":
        np.savez(root / "cifar10.npz", x_train=data, y_train=np.array(classes)[:, None])
        first = "cifar10_train_00000"
    else:
        rows = data.transpose(0, 3, 1, 2).reshape(12, -1)
        (root / "cifar-10-batches-py").mkdir()
        with open(root / "cifar-10-batches-py/data_batch_1", "wb") as stream:
            pickle.dump({b"data": rows, b"labels": classes}, stream, protocol=2)
        first = "data_batch_1_00000"
    folder = convert("cifar10", root)
    np.testing.assert_array_equal(pixels(folder / f"imagesTr/{first}_0000.png"), data[0])
    rows_of_classes = table(folder / "classes.csv")
    assert [row["class"] for row in rows_of_classes[:3]] == ["airplane", "automobile", "bird"]
    assert pixels(folder / f"labelsTr/{first}.png").min() == 1


class Evil:
    """Would write a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_a_batch_can_not_run_code(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(root / "data_batch_1", "wb") as stream:
        pickle.dump({b"data": Evil(root / "ran"), b"labels": []}, stream)
    assert "not an archive of CIFAR-10" in refused(capsys, "cifar10", root)
    assert not (root / "ran").exists()


@pytest.mark.parametrize(
    ("values", "ending", "message"),
    [
        (np.arange(320, dtype=np.uint16) * 10, ".png", "has grey values from 0 to 3190, which RGB can't hold"),
        (np.arange(320, dtype=np.int32) - 9, ".tif", "has grey values from -9 to 310"),
        (np.linspace(0, 1, 320, dtype=np.float32), ".tif", "has grey values from 0 to 1, which RGB can't hold"),
    ],
)
def test_grey_values_beyond_8_bits_are_not_cut(
    values: NDArray[Any], ending: str, message: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        picture(root / f"train/cat/{number}.png", seed=number)
    Image.fromarray(values.reshape(16, 20)).save(root / f"train/cat/wide{ending}")
    assert message in refused(capsys, "imagefolder", root)
    Image.fromarray((values.reshape(16, 20) > 1).astype(values.dtype)).save(root / f"train/cat/wide{ending}")
    convert("imagefolder", root)


def test_a_picture_of_several_pages_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        picture(root / f"train/cat/{number}.png", seed=number)
    pages = [Image.fromarray(np.full((16, 20), 9 * i, np.uint8)) for i in range(3)]
    pages[0].save(root / "train/cat/stack.tif", save_all=True, append_images=pages[1:])
    assert "stack.tif has 3 pages" in refused(capsys, "imagefolder", root)


@pytest.mark.parametrize(
    ("dataset", "wanted"),
    [
        ("imagefolder", "CLASS/PICTURE"),
        ("voc2012", "ImageSets/Segmentation"),
        ("coco2017", "instances_train2017.json"),
        ("ade20k", "annotations/training"),
        ("camvid", "trainannot"),
        ("cifar10", "data_batch_1"),
        ("t1_bids", "t1_folder"),
        ("t1_folder", ".nii.gz"),
    ],
)
def test_a_wrong_root_is_told(root: Path, capsys: pytest.CaptureFixture[str], dataset: str, wanted: str) -> None:
    (root / "thesis.txt").write_text("mine")
    message = refused(capsys, dataset, root)
    assert wanted in message
    assert "thesis.txt" in message


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["class=height"], "there are: participant_id, sex, age"),
        (["class=age", "bins=60,40"], "must increase"),
        (["class=age", "bins=old"], "give numbers"),
        (["class=sex", "bins=40"], "is not a number"),
        (["bins=40"], "needs --option class"),
        (["class=sex", "table=/nowhere.tsv"], "does not exist"),
        (["clas=sex"], "has no option clas"),
    ],
)
def test_wrong_options_are_told(
    root: Path, capsys: pytest.CaptureFixture[str], options: list[str], wanted: str
) -> None:
    bids_tree(root)
    assert wanted in refused(capsys, "t1_bids", root, *(part for o in options for part in ("--option", o)))


def test_names_of_classes_are_complete() -> None:
    assert [len(set(found)) for found in (VOC, CAMVID, COCO.values(), ADE20K)] == [20, 11, 80, 150]
    assert (COCO[1], COCO[90], ADE20K[11], ADE20K[149]) == ("person", "toothbrush", "sidewalk", "flag")


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
    | hnp.arrays(st.sampled_from([np.uint8, np.uint16]), st.tuples(st.integers(1, 9), st.integers(1, 9)))
)
def test_pictures_are_written_without_loss(array: NDArray[np.integer]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        write_png(array, path)
        np.testing.assert_array_equal(pixels(path), array)
        with Image.open(path) as image:
            image.verify()


@pytest.mark.parametrize("array", [np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2), np.int32)])
def test_what_png_can_not_hold_is_refused(tmp_path: Path, array: NDArray[np.integer]) -> None:
    with pytest.raises(ValueError, match="neither an RGB picture nor a mask"):
        write_png(array, tmp_path / "a.png")


def test_nnunet_takes_the_pictures(root: Path) -> None:
    from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    from nnunet_transfer._nnunet import extract_fingerprint_in_process

    camvid_tree(root)
    folder = convert("camvid", root)
    cases = [name.removesuffix(".png") for name in names(folder / "labelsTr")]
    for case in cases:
        label = str(folder / f"labelsTr/{case}.png")
        assert verify_labels(label, NaturalImage2DIO, list(range(13)))
        assert check_cases([str(folder / f"imagesTr/{case}_0000.png")], label, 3, NaturalImage2DIO)
    fingerprint = extract_fingerprint_in_process(4, foreground_voxels=100) / "dataset_fingerprint.json"
    assert len(json.loads(fingerprint.read_text())["shapes_after_crop"]) == len(cases) == 3


@pytest.mark.real_data
def test_the_real_camvid_and_cifar10(real_data: Path, nnunet_folders: Path) -> None:
    for dataset, count in (("camvid", 90), ("cifar10", 2000)):
        number = "4" if dataset == "camvid" else "5"
        command = ["convert", dataset, str(real_data / f"natural_{dataset}"), "-d", number, "--name", "Real"]
        assert main([*command, "--processes", "1"]) == 0
        folder = nnunet_folders / f"raw/Dataset00{number}_Real"
        assert len(names(folder / "imagesTr")) == len(names(folder / "labelsTr")) == count
