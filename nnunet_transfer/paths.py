"""nnU-Net's folders, read from the environment when used; no nnunetv2 import."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from nnunet_transfer.errors import DataError, SettingsError

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
DATASET_FOLDER = re.compile(r"Dataset(\d{3,})_(.+)")


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise SettingsError(
            f"{variable} is not set; export nnUNet_raw, nnUNet_preprocessed and nnUNet_results as nnU-Net's "
            f"documentation says (setting_up_paths.md)"
        )
    return Path(value)


def nnunet_raw() -> Path:
    """Return nnU-Net's folder of raw data sets."""
    return _folder("nnUNet_raw")


def nnunet_preprocessed() -> Path:
    """Return nnU-Net's folder of preprocessed data sets."""
    return _folder("nnUNet_preprocessed")


def nnunet_results() -> Path:
    """Return nnU-Net's folder of trained models."""
    return _folder("nnUNet_results")


def sources_folder() -> Path:
    """Return the registry of sources: `$nnUNet_sources`, by default `$nnUNet_results/sources`."""
    value = os.environ.get("nnUNet_sources")
    return Path(value) if value else nnunet_results() / "sources"


def set_folders() -> list[Path]:
    """Return those of nnU-Net's folders that are set."""
    return [Path(value) for variable in FOLDERS if (value := os.environ.get(variable))]


def folders_of_id(roots: Iterable[Path], dataset_id: int) -> list[Path]:
    """Return the data sets' folders in `roots` that have this id; for nnU-Net, they are all one data set's."""
    return [
        folder
        for root in roots
        if root.is_dir()
        for folder in sorted(root.iterdir())
        if (match := DATASET_FOLDER.fullmatch(folder.name)) and int(match[1]) == dataset_id
    ]


def dataset_name(dataset: str | int) -> str:
    """Return the folder name `DatasetXXX_Name` of a data set given by that name or by its id.

    Raises
    ------
    DataError
        If no data set, or more than one, has this id in the raw, preprocessed or results folder.
    """
    folders = set_folders()
    if not folders:
        nnunet_raw()
    known = sorted({d.name for f in folders if f.is_dir() for d in f.iterdir() if DATASET_FOLDER.fullmatch(d.name)})
    text = str(dataset)
    if text in known:
        return text
    if text.isdigit():
        found = [n for n in known if int(DATASET_FOLDER.fullmatch(n)[1]) == int(text)]  # type: ignore[index]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(f"data set id {text} is used by {', '.join(found)}; give one of them another id")
    raise DataError(f"no data set {text} in {', '.join(map(str, folders))}; there are: {', '.join(known) or 'none'}")
