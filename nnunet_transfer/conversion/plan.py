"""Everything that is decided before the first voxel is read: options, cases, and the new data set's folder."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_transfer import __version__
from nnunet_transfer.conversion.case_search import (
    Found,
    find_cases,
    search_warnings,
    with_missing_raters,
    without_labels,
)
from nnunet_transfer.conversion.description import CONSENSUS_RULES, Case, DatasetDescription, Request
from nnunet_transfer.conversion.geometry import POLICIES
from nnunet_transfer.conversion.job import Job
from nnunet_transfer.conversion.splits import GROUPINGS
from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.paths import folders_of_id, nnunet_raw, set_folders
from nnunet_transfer.work import work_path

_ORIENTATION = re.compile(r"(?=.*[LR])(?=.*[PA])(?=.*[IS])[LRPAIS]{3}")


@dataclass(frozen=True)
class Options:
    """Options of a conversion, named as on the command line.

    Attributes
    ----------
    name, channels, label_set, rater
        Name of the new data set, images, segmentation and rater to use; None for the data set's default.
    geometry
        What to do if image and label are on different grids, one of `geometry.POLICIES`.
    reorient
        Axis directions to reorient to, such as `RAS`; empty keeps the orientation.
    threshold
        Threshold above which binary masks are foreground; None takes the single non-zero value of the mask.
    group_by
        What stays together in one fold: `subject` or `site`.
    folds
        Number of folds.
    processes
        Number of worker processes; 1 converts in the calling process.
    limit
        Convert only this many cases: training cases first, and the classes in turn.
    link
        Link to files that need no change instead of copying them.
    allow_skips
        Leave out cases that can't be converted instead of raising an error.
    overwrite
        Replace the data set with this id and name.
    dataset_options
        Options of this data set only, `--option` on the command line.
    """

    name: str | None = None
    channels: tuple[str, ...] | None = None
    label_set: str | None = None
    rater: str | None = None
    geometry: str = "error"
    reorient: str = ""
    threshold: float | None = None
    group_by: str = "subject"
    folds: int = 5
    processes: int = 1
    limit: int | None = None
    link: bool = False
    allow_skips: bool = False
    overwrite: bool = False
    dataset_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first voxel is read.

    Attributes
    ----------
    description
        The data set.
    request
        What is requested of the data set, with its defaults filled in.
    found
        Cases, problems, and images that belong to no case.
    folder
        The new data set.
    job
        How to convert each case.
    options
        The options that the plan was made with.
    """

    description: DatasetDescription
    request: Request
    found: Found
    folder: Path
    job: Job
    options: Options

    @property
    def cases(self) -> list[Case]:
        """Cases to convert, in order."""
        return self.found.cases

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user that the names of the files give."""
        return search_warnings(self.cases)

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the content of the data set."""
        return {
            "description": self.description.name,
            "terms": [self.description.title, self.description.licence, self.description.citation],
            "version": __version__,
            "channels": list(self.request.channels),
            "label_set": self.request.label_set,
            "rater": self.request.rater,
            "group_by": self.options.group_by,
            "folds": self.options.folds,
            "dataset_options": dict(self.request.options),
            **self.job.identity(),
        }


def request(description: DatasetDescription, root: Path, options: Options) -> Request:
    """Return the user's request, with the data set's defaults for options that were not given."""
    return Request(
        root.expanduser().absolute(),
        options.channels or description.channels,
        options.label_set or next(iter(description.label_sets)),
        _rater(description, options.rater),
        options.dataset_options,
    )


def _rater(description: DatasetDescription, chosen: str | None) -> str:
    if chosen is None:
        return description.default_rater or ""
    return chosen.casefold() if chosen.casefold() in CONSENSUS_RULES else chosen


def plan_conversion(description: DatasetDescription, root: Path, dataset_id: int, options: Options) -> Plan:
    """Find the cases and check the options, without reading voxels or writing files.

    Raises
    ------
    SettingsError, DataError
        As from `find_cases`, or if an option, the id or the name is invalid.
    """
    _check_options(options)
    if description.pictures:
        _refuse_options_of_volumes(description, options)
    chosen = request(description, root, options)
    folder = nnunet_raw() / dataset_folder_name(dataset_id, options.name or description.folder_name)
    check_id(folder.name, set_folders())
    found = find_cases(description, chosen)
    rule = description.label_sets[chosen.label_set]
    if options.threshold is not None and not rule.binary:
        what = "needs no masks" if rule.foreground else "has several values with different meanings"
        raise SettingsError(f"--threshold is for binary masks; label set {chosen.label_set} {what}")
    cases = [case if case.masks or rule.foreground else without_labels(case) for case in found.cases]
    cases = with_missing_raters(sorted(cases, key=lambda case: case.split != "train"))
    cases = _limited(cases, options.limit)
    if options.group_by == "site" and (lost := [c.name for c in cases if c.split == "train" and not c.site]):
        raise SettingsError(f"case {lost[0]} has no site; take --group-by subject")
    job = Job(
        chosen.root,
        work_path(folder),
        rule,
        options.geometry,
        options.reorient,
        options.link,
        description.pictures,
        description.hint,
        options.threshold,
    )
    return Plan(description, chosen, replace(found, cases=cases), folder, job, options)


def _limited(cases: Sequence[Case], limit: int | None) -> list[Case]:
    """Return the first cases, in their order; classes take turns, as many as can have two cases each.

    Pre-training by classification refuses a single class and classes with a single case.
    """
    if limit is None or len(cases) <= limit:
        return list(cases)
    late = {*list(dict.fromkeys(case.class_name for case in cases))[max(1, limit // 2) :]}
    seen: Counter[tuple[str, str]] = Counter()
    turns = {}
    for case in cases:
        turns[case.name] = (case.split != "train", case.class_name in late, seen[case.split, case.class_name])
        seen[case.split, case.class_name] += 1
    chosen = {case.name for case in sorted(cases, key=lambda case: turns[case.name])[:limit]}
    return [case for case in cases if case.name in chosen]


def _check_options(options: Options) -> None:
    if options.geometry not in POLICIES:
        raise SettingsError(f"unknown geometry policy {options.geometry}; there are: {', '.join(POLICIES)}")
    if options.group_by not in GROUPINGS:
        raise SettingsError(f"cases can't be grouped by {options.group_by}; there are: {', '.join(GROUPINGS)}")
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise SettingsError(f"threshold {options.threshold} takes all or nothing as foreground; give a finite number")
    if options.reorient and not _ORIENTATION.fullmatch(options.reorient):
        raise SettingsError(f"{options.reorient} is not an orientation; give three letters such as RAS or LPS")
    for name, value, least in (
        ("limit", options.limit, 1),
        ("processes", options.processes, 1),
        ("folds", options.folds, 2),
    ):
        if value is not None and value < least:
            raise SettingsError(f"--{name} {value} is too small; give {least} or more")


def _refuse_options_of_volumes(description: DatasetDescription, options: Options) -> None:
    for option, given in (
        ("channels", options.channels),
        ("geometry", options.geometry != "error"),
        ("reorient", options.reorient),
    ):
        if given:
            raise SettingsError(f"--{option} is for volumes; {description.name} has pictures, so leave it out")


def dataset_folder_name(dataset_id: int, name: str) -> str:
    """Return `DatasetXXX_Name`; raise a `SettingsError` if nnU-Net doesn't accept it."""
    folder = f"Dataset{dataset_id:03d}_{name}"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not 0 < dataset_id < 1000:
        raise SettingsError(
            f"{folder} isn't a name that nnU-Net accepts; give an id from 1 to 999 and a name of letters and digits"
        )
    return folder


def check_id(name: str, roots: Iterable[Path]) -> None:
    """Raise a `DataError` if another data set than `name` has its id in one of nnU-Net's folders `roots`."""
    for found in folders_of_id(roots, _id_of(name)):
        if found.name != name:
            raise DataError(f"id {_id_of(name)} is used by {found}; choose another with -d")


def check_id_is_free(name: str) -> None:
    """Raise a `DataError` if any data set has the id of the data set `name` in one of nnU-Net's folders."""
    for found in folders_of_id(set_folders(), _id_of(name)):
        raise DataError(f"id {_id_of(name)} is used by {found}; choose another for {name}")


def _id_of(name: str) -> int:
    return int(name.removeprefix("Dataset").split("_")[0])
