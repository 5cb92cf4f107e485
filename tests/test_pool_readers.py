"""Pooling data sets whose files are pictures or TIFF volumes, which nnU-Net reads by rules of their own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from nnunetv2.utilities.utils import create_paths_fn
from PIL import Image

from nnunet_transfer.cli import main
from nnunet_transfer.conversion.raw_dataset import PICTURE_ENDINGS, PICTURE_READER, TIFF_ENDINGS
from nnunet_transfer.files import read_json, write_json
from tests.nnunet_data import edit_json, two_folds, write_blob_dataset, write_picture_dataset

PICTURES = ["pool", "-d", "13", "14", "--id", "20", "--name", "Pooled"]


@pytest.fixture
def pictures(nnunet_folders: Path) -> Path:
    """Two raw data sets of pictures in colour, one file per case, with three and two cases."""
    folder = nnunet_folders / "raw"
    for number, cases in ((13, 3), (14, 2)):
        name = write_picture_dataset(folder, number, cases=cases, shape=(12, 10), labels=1)
        edit_json(folder / name / "dataset.json", channel_names={"0": "R", "1": "G", "2": "B"})
        write_json(folder / name / "splits_final.json", two_folds(cases))
    return folder


def test_endings_are_those_of_nnunets_readers() -> None:
    assert list(PICTURE_ENDINGS) == NaturalImage2DIO.supported_file_endings
    assert NaturalImage2DIO.__name__ == PICTURE_READER
    assert list(TIFF_ENDINGS) == Tiff3DIO.supported_file_endings


def _one_file_per_colour(picture: Path) -> None:
    colours = np.asarray(Image.open(picture))
    for channel in range(3):
        Image.fromarray(colours[..., channel]).save(picture.with_name(f"case00_000{channel}.png"))


@pytest.mark.parametrize("reader", [None, "None", PICTURE_READER])
@pytest.mark.parametrize("separate", [False, True])
def test_pictures_in_colour_have_one_file_or_one_per_colour(pictures: Path, separate: bool, reader: str | None) -> None:
    for dataset in ("Dataset013_Pictures", "Dataset014_Pictures"):
        edit_json(pictures / dataset / "dataset.json", **({"overwrite_image_reader_writer": reader} if reader else {}))
    if separate:
        _one_file_per_colour(pictures / "Dataset014_Pictures/imagesTr/case00_0000.png")
    assert main(PICTURES) == 0
    folder, io = pictures / "Dataset020_Pooled", NaturalImage2DIO()
    assert list(read_json(folder / "dataset.json")["channel_names"].values()) == ["R", "G", "B"]
    assert read_json(folder / "dataset.json")["numTraining"] == 5
    written = sorted(path.name for path in (folder / "imagesTr").iterdir())
    assert len(written) == (7 if separate else 5)
    for dataset, shift in (("Dataset013_Pictures", 0), ("Dataset014_Pictures", 1)):
        files = sorted(path.name for path in (pictures / dataset / "imagesTr").iterdir())
        for path in (pictures / dataset / "labelsTr").iterdir():
            old = io.read_images(create_paths_fn(str(pictures / dataset / "imagesTr"), files, ".png", path.stem))[0]
            name = f"{dataset}_{path.stem}"
            new = io.read_images(create_paths_fn(str(folder / "imagesTr"), written, ".png", name))[0]
            assert new.shape == (3, 1, 12, 10)
            assert np.array_equal(old, new)
            before, after = io.read_seg(str(path))[0], io.read_seg(str(folder / "labelsTr" / f"{name}.png"))[0]
            assert np.array_equal(np.where(before > 0, before + shift, 0), after)


def _mode(mode: str) -> Any:
    def change(raw: Path) -> None:
        path = raw / "Dataset014_Pictures/imagesTr/case01_0000.png"
        Image.open(path).convert(mode).save(path)

    return change


def _grey_set(raw: Path) -> None:
    _mode("L")(raw)
    edit_json(raw / "Dataset014_Pictures/dataset.json", channel_names={"0": "grey"})


def _damaged_picture(raw: Path) -> None:
    (raw / "Dataset014_Pictures/imagesTr/case01_0000.png").write_bytes(b"no picture")


def _mask_in_colour(raw: Path) -> None:
    path = raw / "Dataset014_Pictures/labelsTr/case01.png"
    Image.open(path).convert("RGB").save(path)


def _another_reader(raw: Path) -> None:
    for name in ("Dataset013_Pictures", "Dataset014_Pictures"):
        edit_json(raw / name / "dataset.json", overwrite_image_reader_writer="SimpleITKIO")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_mode("L"), "case01_0001.png does not exist"),
        (_mode("RGBA"), "case01_0001.png does not exist"),
        (_damaged_picture, "case01_0001.png does not exist"),
        (_another_reader, "case00_0001.png does not exist"),
        (_mask_in_colour, "labelsTr/case01.png is in colour; a label has one value per voxel"),
        (_grey_set, "Dataset014_Pictures has the channels grey, Dataset013_Pictures has r, g, b"),
    ],
)
def test_pictures_with_other_channels_than_named_are_refused(
    fault: Any, message: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fault(pictures)
    assert main(PICTURES) == 2
    assert message in capsys.readouterr().err
    assert not (pictures / "Dataset020_Pooled").exists()


@pytest.mark.parametrize("ending", TIFF_ENDINGS)
@pytest.mark.parametrize("listed", [False, True])
def test_volumes_in_tiff_keep_their_spacing(nnunet_folders: Path, ending: str, listed: bool) -> None:
    raw, io = nnunet_folders / "raw", Tiff3DIO()
    rng = np.random.default_rng(0)
    for number in (13, 14):
        folder = raw / write_blob_dataset(raw, number, cases=0)
        label = (rng.random((5, 8, 6)) > 0.5).astype(np.uint8)
        cases = [f"case{i:02d}" for i in range(2)]
        for case in cases:
            tifffile.imwrite(folder / f"imagesTr/{case}_0000{ending}", rng.random((5, 8, 6)).astype(np.float32))
            io.write_seg(label, str(folder / f"labelsTr/{case}{ending}"), {"spacing": [2.0, 0.5, number]})
            shutil.copyfile(folder / f"labelsTr/{case}.json", folder / f"imagesTr/{case}.json")
        (folder / "imagesTr/case01.json").unlink()
        places = {c: {"images": [f"imagesTr/{c}_0000{ending}"], "label": f"labelsTr/{c}{ending}"} for c in cases}
        edit_json(folder / "dataset.json", file_ending=ending, **({"dataset": places} if listed else {}))
        write_json(folder / "splits_final.json", two_folds(2))
    assert main([*PICTURES, "--link"]) == 0
    pooled = raw / "Dataset020_Pooled"
    for number in (13, 14):
        folder = raw / f"Dataset{number:03d}_Blobs"
        for case in ("case00", "case01"):
            name = f"{folder.name}_{case}"
            image, properties = io.read_images([str(pooled / f"imagesTr/{name}_0000{ending}")])
            assert np.array_equal(image, io.read_images([str(folder / f"imagesTr/{case}_0000{ending}")])[0])
            # case01 has no file with a spacing, for which nnU-Net takes this
            assert tuple(properties["spacing"]) == ((2.0, 0.5, number) if case == "case00" else (1, 1, 1))
            label, properties = io.read_seg(str(pooled / f"labelsTr/{name}{ending}"))
            before = io.read_seg(str(folder / f"labelsTr/{case}{ending}"))[0]
            assert np.array_equal(label, before * (number - 12))
            assert tuple(properties["spacing"]) == (2.0, 0.5, number)
