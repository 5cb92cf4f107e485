"""A raw data set: its dataset.json and the files of its training cases, by nnU-Net's rules. Checked against nnunetv2 2.8.1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from nnunet_transfer.channels import channel_names
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json
from nnunet_transfer.subjects import MADE_FROM

IGNORE = "ignore"
#: largest value in a label file
MAX_LABEL = (1 << 16) - 1
#: nnU-Net's reader of pictures, for which the colours in one file are channels, and its file endings
PICTURE_READER = "NaturalImage2DIO"
PICTURE_ENDINGS = (".png", ".bmp", ".tif")
#: channels of a picture in colour, without and with transparency
_COLOURS = (3, 4)
#: file endings of nnU-Net's `Tiff3DIO`, which reads the spacing from `<case>.json` beside image and label
TIFF_ENDINGS = (".tif", ".tiff")


@dataclass(frozen=True)
class CaseFiles:
    """Images, in the order of the channels, and label of a case."""

    images: tuple[Path, ...]
    label: Path

    def spacings(self) -> dict[str, Path]:
        """Return the files with the spacing of TIFF images and of their label, by the folder that they belong to."""
        named = [
            *(("imagesTr", image, image.stem[: -len("_0000")]) for image in self.images[:1]),
            ("labelsTr", self.label, self.label.stem),
        ]
        return {
            folder: file
            for folder, path, name in named
            if path.suffix.lower() in TIFF_ENDINGS and (file := path.with_name(f"{name}.json")).is_file()
        }


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """Read the dataset.json of a raw data set.

    Raises
    ------
    DataError
        If it is missing, can't be read, or lacks what nnU-Net needs.
    """
    content = read_json(folder / "dataset.json")
    if not isinstance(content, dict):
        raise DataError(
            f"{folder / 'dataset.json'} is not a JSON object; complete it as nnU-Net's dataset_format.md says"
        )
    if missing := [key for key in ("labels", "file_ending") if not content.get(key)]:
        raise DataError(
            f"{folder / 'dataset.json'} lacks {missing[0]}; complete it as nnU-Net's dataset_format.md says"
        )
    for key, (fits, form) in _FORMS.items():
        if content.get(key) is not None and not fits(content[key]):
            raise DataError(f"{folder / 'dataset.json'}: {key} must be {form}")
    try:
        channel_names(content)
    except DataError as error:
        raise DataError(f"{folder.name}: {error}") from None
    return content


def find_cases(folder: Path, content: Mapping[str, Any]) -> dict[str, CaseFiles]:
    """Return the training cases of a raw data set, sorted by name.

    Parameters
    ----------
    content : its dataset.json

    Raises
    ------
    DataError
        If there are none, or a file is missing.
    """
    ending = content["file_ending"]
    if listed := content.get("dataset"):  # nnU-Net's entry for files in other places
        cases = {
            case: CaseFiles(tuple(folder / path for path in files["images"]), folder / files["label"])
            for case, files in sorted(listed.items())
        }
    else:
        pictures = (folder / "imagesTr").glob(f"*_0000{ending}")
        cases = {
            case: CaseFiles(_images(folder / "imagesTr", case, content), folder / "labelsTr" / f"{case}{ending}")
            for case in sorted(path.name[: -len(f"_0000{ending}")] for path in pictures)
        }
    if not cases:
        raise DataError(f"{folder} has no training cases; look for *_0000{ending} in imagesTr")
    for files in cases.values():
        if missing := [path for path in (*files.images, files.label) if not path.is_file()]:
            raise DataError(f"{missing[0]} does not exist; restore it or remove its case")
    return cases


def _images(folder: Path, case: str, content: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the files of a case: one per channel, or a single one whose colours are the channels."""
    channels = len(channel_names(content))
    files = tuple(folder / f"{case}_{channel:04d}{content['file_ending']}" for channel in range(channels))
    if channels not in _COLOURS or not _may_be_in_colour(content) or any(file.is_file() for file in files[1:]):
        return files
    return files[:1] if _channels_in(files[0]) == channels else files


def _may_be_in_colour(content: Mapping[str, Any]) -> bool:
    reader = content.get("overwrite_image_reader_writer") or "None"  # nnU-Net's word for its own choice
    return content["file_ending"].lower() in PICTURE_ENDINGS and reader in ("None", PICTURE_READER)


def _channels_in(picture: Path) -> int:
    """Return the number of channels that nnU-Net reads from a picture, from its header; 0 if it can't be read."""
    try:
        with Image.open(picture) as image:
            # palettes are replaced by their colours
            return 3 if image.mode == "P" else len(image.getbands())
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _lists_files(value: Any) -> bool:
    """Whether a value is nnU-Net's list of cases with files in other places."""
    return isinstance(value, dict) and all(
        isinstance(files, dict)
        and _is_texts(files.get("images"))
        and isinstance(files.get("label"), str)
        and not set("/\\\0") & set(case)
        for case, files in value.items()
    )


def _has_a_value_to_ignore(value: Any) -> bool:
    ignore = value.get(IGNORE) if isinstance(value, dict) else None
    return isinstance(value, dict) and (ignore is None or (type(ignore) is int and 0 < ignore <= MAX_LABEL))


#: entry of dataset.json that is read here -> check of a value, and description of valid values
_FORMS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "labels": (_has_a_value_to_ignore, f"a mapping of names to values, with one up to {MAX_LABEL} to ignore if any"),
    "file_ending": (lambda value: isinstance(value, str), "a text such as .nii.gz"),
    "dataset": (_lists_files, "a mapping of cases to the paths of their images and their label"),
    "overwrite_image_reader_writer": (lambda value: isinstance(value, str), "the name of a reader"),
    MADE_FROM: (_is_texts, "a list of data sets' names"),
}
