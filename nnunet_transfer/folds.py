"""The folds of a data set, as nnU-Net keeps them in splits_final.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json

Folds = list[dict[str, list[str]]]
#: number of folds that nnU-Net makes for a data set without any
NNUNET_FOLDS = 5


def check_enough_cases(dataset: str, count: int) -> None:
    """Check that nnU-Net can make folds of so many cases.

    Raises
    ------
    DataError
        If there are fewer cases than folds.
    """
    if count < NNUNET_FOLDS:
        raise DataError(
            f"{dataset} has no splits_final.json, and too few cases ({count}) for nnU-Net's {NNUNET_FOLDS} folds; write one into "
            f"its folder in nnUNet_raw"
        )


def read_folds(path: Path) -> Folds:
    """Read a list of folds.

    Raises
    ------
    DataError
        If the file can't be read, or its content is not one.
    """
    return checked_folds(read_json(path), path)


def checked_folds(content: Any, path: Path) -> Folds:
    """Return the content of `path` if it is a list of folds, each with the cases of `train` and `val`.

    Raises
    ------
    DataError
        If it isn't.
    """
    if not (
        isinstance(content, list)
        and content
        and all(
            isinstance(fold, dict) and all(_is_texts(fold.get(role)) for role in ("train", "val")) for fold in content
        )
    ):
        raise DataError(f"{path} is not a list of folds with train and val; restore it, or convert the data set again")
    return content


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
