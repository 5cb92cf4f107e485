"""A data set in a pool: its cases, and the new values of its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_transfer.channels import channel_names
from nnunet_transfer.conversion.raw_dataset import IGNORE, CaseFiles, find_cases, read_dataset_json
from nnunet_transfer.errors import DataError
from nnunet_transfer.paths import DATASET_FOLDER
from nnunet_transfer.subjects import find_origin


@dataclass(frozen=True)
class PooledSet:
    """A data set in the pool.

    Attributes
    ----------
    name : name of the set and prefix of its cases and labels
    dataset : folder name
    folder : folder in `nnUNet_raw`
    content : its dataset.json
    cases : its training cases, sorted
    labels : foreground label -> value in the pool
    values : value on disk -> value in the pool
    subjects : case -> subject in the pool
    sites : case -> site; empty where unknown
    """

    name: str
    dataset: str
    folder: Path
    content: dict[str, Any] = field(repr=False)
    cases: dict[str, CaseFiles] = field(repr=False)
    labels: dict[str, int]
    values: dict[int, int]
    subjects: dict[str, str] = field(repr=False)
    sites: dict[str, str] = field(repr=False)

    @property
    def file_ending(self) -> str:
        """File ending of images and labels."""
        return str(self.content["file_ending"])

    def pooled_name(self, own: str) -> str:
        """Return the name in the pool of a case or label."""
        return f"{self.name}_{own}"


def read_sets(folders: Sequence[Path], same_subjects: bool) -> tuple[tuple[PooledSet, ...], int | None]:
    """Read the sets and give their labels disjoint values, from 1 on.

    Parameters
    ----------
    same_subjects : whether subjects with the same name in several sets are the same person

    Returns
    -------
    sets : in the order of `folders`
    ignore : value of the ignore label, the highest, as nnU-Net requires; None if no set has one

    Raises
    ------
    DataError
        If a set is incomplete or has regions, or the sets can't be combined.
    """
    contents = [_read(folder) for folder in folders]
    _refuse_differences(folders, contents)
    foregrounds = [_foreground(folder, content) for folder, content in zip(folders, contents, strict=True)]
    ignored = [content["labels"].get(IGNORE) for content in contents]
    total = sum(map(len, foregrounds))
    ignore = total + 1 if any(value is not None for value in ignored) else None
    sets: list[PooledSet] = []
    last = 0
    names = _set_names(folders)
    for number, folder in enumerate(folders):
        own = foregrounds[number]
        labels = {label: last + value for label, value in own.items()}
        values = {0: 0} | {value: last + value for value in own.values()}
        if ignored[number] is not None and ignore is not None:
            values[ignored[number]] = ignore
        cases = find_cases(folder, contents[number])
        origin = find_origin(cases, folder)
        prefix = "" if same_subjects else f"{names[number]}_"
        subjects = {case: prefix + subject for case, subject in origin.subject.items()}
        sets.append(
            PooledSet(
                names[number], folder.name, folder, contents[number], cases, labels, values, subjects, origin.site
            )
        )
        last += len(own)
    _refuse_equal_names(sets)
    return tuple(sets), ignore


def _read(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise DataError(f"{folder.name} is not in {folder.parent}: pooling needs the raw data")
    return read_dataset_json(folder)


def _refuse_differences(folders: Sequence[Path], contents: Sequence[dict[str, Any]]) -> None:
    def channels(content: dict[str, Any]) -> str:
        return ", ".join(name.strip().lower() for name in channel_names(content))

    for what, value in (
        ("the channels", channels),
        ("the file ending", lambda content: content["file_ending"]),
        ("the reader", lambda content: content.get("overwrite_image_reader_writer") or "nnU-Net's choice"),
    ):
        first = value(contents[0])
        for folder, content in zip(folders, contents, strict=True):
            if (other := value(content)) != first:
                raise DataError(
                    f"{folder.name} has {what} {other}, {folders[0].name} has {first}; only sets with the same can be pooled"
                )


def _foreground(folder: Path, content: dict[str, Any]) -> dict[str, int]:
    """Return the labels except background and ignore, by value."""
    labels = {name: value for name, value in content["labels"].items() if name != IGNORE}
    if content.get("regions_class_order") or any(not isinstance(value, int) for value in labels.values()):
        raise DataError(
            f"{folder.name} has regions for labels, whose outputs overlap; pool a version of it with one label per voxel"
        )
    if sorted(labels.values()) != list(range(len(labels))) or len(labels) < 2:
        raise DataError(
            f"the labels of {folder.name} are {sorted(labels.values())}; nnU-Net needs 0 for the background and then "
            f"1, 2, 3 without gaps"
        )
    return {name: value for name, value in sorted(labels.items(), key=lambda item: item[1]) if value}


def _set_names(folders: Sequence[Path]) -> list[str]:
    """Return the names of the data sets without their ids, or with them if two names coincide."""
    short = [match[2] if (match := DATASET_FOLDER.fullmatch(folder.name)) else folder.name for folder in folders]
    return short if len(set(short)) == len(short) else [folder.name for folder in folders]


def _refuse_equal_names(sets: Sequence[PooledSet]) -> None:
    seen: dict[str, str] = {}
    for pooled in sets:
        named = [f"case {pooled.pooled_name(case)}" for case in pooled.cases]
        named += [f"label {pooled.pooled_name(label)}" for label in pooled.labels]
        for name in named:
            if name in seen:
                raise DataError(f"{seen[name]} and {pooled.dataset} both give a {name}; rename one of the data sets")
            seen[name] = pooled.dataset
