"""Install the folds of a converted data set where nnU-Net reads them, after checking them against the preprocessed cases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.folds import checked_folds
from nnunet_transfer.paths import dataset_name, nnunet_preprocessed, nnunet_raw

FILE_NAME = "splits_final.json"


def install_splits(dataset: str | int, *, overwrite: bool = False) -> Path:
    """Copy `splits_final.json` from the raw to the preprocessed data set; return its path there.

    Raises
    ------
    DataError
        If the folds don't match the preprocessed cases, or different folds are already installed.
    """
    name = dataset_name(dataset)
    source = nnunet_raw() / name / FILE_NAME
    if not source.is_file():
        raise DataError(f"{source} does not exist; convert the data set with `nnunet_transfer convert`")
    splits = read_json(source)
    check_form(splits, source)
    folder = nnunet_preprocessed() / name
    _check_cases(splits, _preprocessed_cases(folder, _file_ending(source.with_name("dataset.json"))), source)
    target = folder / FILE_NAME
    if target.is_file():
        if read_json(target) == splits:
            return target
        if not overwrite:
            raise DataError(
                f"{target} has other folds; give --overwrite to replace them, unless models were trained on them"
            )
    write_json(target, splits)
    return target


def check_form(splits: Any, path: Path) -> None:
    """Raise a `DataError` if the content of `path` is not a list of folds, or a case is on both sides of a fold."""
    checked_folds(splits, path)
    for number, fold in enumerate(splits):
        if both := set(fold["train"]) & set(fold["val"]):
            raise DataError(f"{path}: {min(both)} is in train and in val of fold {number}; convert the data set again")
    counts = Counter(case for fold in splits for case in fold["val"])
    if twice := [case for case, count in counts.items() if count > 1]:
        raise DataError(f"{path}: {min(twice)} is for validation in several folds; convert the data set again")


def _file_ending(path: Path) -> str:
    content = read_json(path)
    ending = content.get("file_ending") if isinstance(content, dict) else None
    if not isinstance(ending, str):
        raise DataError(f"{path} has no file_ending; complete it as nnU-Net's dataset_format.md says")
    return ending


def _preprocessed_cases(folder: Path, ending: str) -> set[str]:
    labels = folder / "gt_segmentations"
    # names of cases may have dots
    cases = {path.name.removesuffix(ending) for path in labels.iterdir()} if labels.is_dir() else set()
    if not cases:
        raise DataError(f"{folder} holds no preprocessed cases; run nnUNetv2_plan_and_preprocess first")
    return cases


def _check_cases(splits: list[dict[str, list[str]]], present: set[str], path: Path) -> None:
    for number, fold in enumerate(splits):
        listed = {*fold["train"], *fold["val"]}
        for cases, fault in ((listed - present, "isn't preprocessed"), (present - listed, "isn't in the folds")):
            if cases:
                raise DataError(
                    f"{path}: case {min(cases)} {fault} (fold {number}, {len(cases)} such cases); "
                    f"run nnUNetv2_plan_and_preprocess on the data set as it is now"
                )
