"""How many training cases the folds of a study's data sets have, and how many its trainings ask for (`cases`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_transfer.conversion.install import FILE_NAME, check_form
from nnunet_transfer.conversion.raw_dataset import find_cases, read_dataset_json
from nnunet_transfer.errors import DataError
from nnunet_transfer.folds import read_folds
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.document import Place
from nnunet_transfer.study.own_folds import validation_sizes
from nnunet_transfer.words import counted

#: fold of a training on all cases
ALL = "all"


def asked_for(study: Study, content: Mapping[str, Any]) -> Iterator[tuple[Place, int, str, tuple[int | str, ...]]]:
    """Yield place in the file, number of training cases, data set and folds, for all trainings on some of the cases.

    Parameters
    ----------
    content : of the study file
    """
    for i, number in enumerate(content.get("cases", ())):
        for target in study.targets.values() if number != ALL else ():
            yield ("cases", i), number, target.dataset, target.folds
    for name, source in study.sources.items():
        if source.trainer and source.trainer.cases:
            yield ("sources", name, "cases"), source.trainer.cases, source.dataset, (source.fold,)


def cases_of_folds(raw: Path, preprocessed: Path) -> dict[int | str, int]:
    """Return fold -> number of training cases of a data set in nnU-Net's raw folder; `ALL` -> number of its cases.

    Parameters
    ----------
    raw, preprocessed : folders of the data set, of which the second one may not exist yet

    Raises
    ------
    DataError
        If the data set can't be read, its folds can't be used, or it can't get any.
    """
    cases = list(find_cases(raw, read_dataset_json(raw)))
    if (own := raw / FILE_NAME).is_file():
        sizes = _sizes_of(own, cases, complete=True)
    elif (kept := preprocessed / FILE_NAME).is_file():
        sizes = _sizes_of(kept, cases, complete=False)
    else:
        sizes = [len(cases) - size for size in validation_sizes(cases, raw)]
    return {ALL: len(cases), **dict(enumerate(sizes))}


def cases_of_installed(preprocessed: Path) -> dict[int | str, int]:
    """Return the same for a data set that is preprocessed, whatever has become of its raw folder since.

    Raises
    ------
    DataError
        If its folds can't be read.
    """
    folds = read_folds(preprocessed / FILE_NAME)
    cases = {case for fold in folds for case in (*fold["train"], *fold["val"])}
    return {ALL: len(cases), **{number: len(fold["train"]) for number, fold in enumerate(folds)}}


def without_fold(raw: Path, preprocessed: Path) -> list[str]:
    """Return the cases of a data set in nnU-Net's raw folder that the folds of an earlier run, which count, don't hold.

    Raises
    ------
    DataError
        If the data set or the folds can't be read.
    """
    kept = preprocessed / FILE_NAME
    if (raw / FILE_NAME).is_file() or not kept.is_file():
        return []
    held = {case for fold in read_folds(kept) for case in (*fold["train"], *fold["val"])}
    return sorted(set(find_cases(raw, read_dataset_json(raw))) - held)


def _sizes_of(file: Path, cases: Sequence[str], *, complete: bool) -> list[int]:
    """Return the number of training cases of each fold in a file, after what steps and the comparison check later."""
    folds = read_folds(file)
    check_form(folds, file)
    for number, fold in enumerate(folds):
        listed = {*fold["train"], *fold["val"]}
        if foreign := listed.difference(cases):
            raise DataError(
                f"{file}: fold {number} has {min(foreign)}, which isn't a training case of the data set; correct it"
            )
        if complete and (left := set(cases) - listed):
            raise DataError(f"{file}: fold {number} lacks {min(left)} ({counted(len(left), 'such case')}); complete it")
    return [len(fold["train"]) for fold in folds]


def cases_of_synthetic(name: str) -> dict[int | str, int]:
    """Return the same for one of the demo's data sets, which needn't exist yet."""
    from nnunet_transfer.synthetic.datasets import fold_sizes

    cases, validated = fold_sizes(name)
    return {ALL: cases, **{fold: cases - size for fold, size in enumerate(validated)}}


def most_in_folds(cases: int, folds: int, used: Sequence[int | str]) -> int:
    """Return a number of training cases that one of the used folds can't exceed, however the cases are dealt out.

    Parameters
    ----------
    cases : number of labelled cases
    folds : number of folds
    used : folds that are trained; `ALL` has no validation cases of its own
    """
    if not set(used) - {ALL}:
        return cases
    # if all folds are trained, the one that validates most is among them
    return cases - (-(-cases // folds) if set(range(folds)) <= set(used) else 1)
