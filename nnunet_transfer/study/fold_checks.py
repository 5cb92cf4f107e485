"""Find trainings on folds, or on more cases, than the data sets of a study have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nnunet_transfer.conversion.install import FILE_NAME
from nnunet_transfer.errors import DataError
from nnunet_transfer.folds import NNUNET_FOLDS
from nnunet_transfer.study import state
from nnunet_transfer.study.description import Dataset, Study
from nnunet_transfer.study.document import Place
from nnunet_transfer.study.findings import Context, Found, raw_folder
from nnunet_transfer.study.training_cases import (
    ALL,
    asked_for,
    cases_of_folds,
    cases_of_installed,
    cases_of_synthetic,
    most_in_folds,
    without_fold,
)
from nnunet_transfer.words import counted, shortened, verb

if TYPE_CHECKING:
    from nnunet_transfer.conversion.plan import Plan


def too_few_groups(context: Context, dataset: Dataset, plan: Plan) -> Found:
    """Find folds that a data set will not have, because it has fewer subjects (or sites) than folds."""
    unit = plan.options.group_by
    count = len(
        {case.site if unit == "site" else case.subject or case.name for case in plan.cases if case.split == "train"}
    )
    if not 2 <= count < plan.options.folds:
        return
    for place, fold in _folds_used(context.study, dataset):
        if fold >= count:
            yield (
                place,
                context.finding(
                    place, f"{dataset.name} has {counted(count, unit)} and so the folds 0 to {count - 1}, not {fold}"
                ),
            )


def too_few_planned(context: Context, dataset: Dataset, plan: Plan) -> Found:
    """Find trainings on more cases than the folds of a conversion can have, whatever cases they will hold."""
    count = sum(case.split == "train" for case in plan.cases)
    for place, number, name, used in asked_for(context.study, context.document.content):
        most = most_in_folds(count, plan.options.folds, used)
        if name == dataset.name and number > most:
            message = f"{name} has {counted(count, 'labelled case')}, so {number} can't train in each fold; give at most {most}"
            yield place, context.finding(place, message)


def _folds_used(study: Study, dataset: Dataset) -> Iterator[tuple[Place, int]]:
    """Yield each place that uses folds of a data set, with the largest fold."""
    for name, source in study.sources.items():
        if source.dataset == dataset.name and isinstance(source.fold, int):
            yield ("sources", name, "fold"), source.fold
    for name, target in study.targets.items():
        if target.dataset == dataset.name:
            yield ("targets", name, "folds"), max(target.folds)


def folds(context: Context) -> Found:
    """Find folds that data sets don't have."""
    study = context.study
    for name, source in study.sources.items():
        count = _number_of_folds(context, study.datasets[source.dataset]) if source.dataset else None
        if count is not None and isinstance(source.fold, int) and source.fold >= count:
            where: Place = ("sources", name, "fold")
            yield (
                where,
                context.finding(where, f"{source.dataset} has the folds 0 to {count - 1}; give one of them, or all"),
            )
    for name, target in study.targets.items():
        dataset = study.datasets[target.dataset]
        count = _number_of_folds(context, dataset)
        if count is not None and max(target.folds) >= count:
            place: Place = ("targets", name, "folds")
            yield (
                place,
                context.finding(place, f"{dataset.name} has the folds 0 to {count - 1}, not {max(target.folds)}"),
            )


def _number_of_folds(context: Context, dataset: Dataset) -> int | None:
    """Return the number of folds; None if the data set can't be found or read, which other checks say."""
    study = context.study
    job = context.jobs.get(f"convert-{dataset.name}")
    if dataset.converter and not (job and state.is_done(study.folder, job)):
        return int(dataset.options.get("folds", NNUNET_FOLDS))
    try:
        counts = _cases_of_folds(context, dataset)
    except DataError:
        return None
    return len(set(counts) - {ALL}) if counts else None


def _cases_of_folds(context: Context, dataset: Dataset) -> dict[int | str, int]:
    """Return fold -> number of training cases; empty if the data set doesn't exist yet."""
    study = context.study
    job = context.jobs.get(f"convert-{dataset.name}")
    if dataset.converter and not (job and state.is_done(study.folder, job)):
        return {}
    folder = raw_folder(study, dataset)
    if folder is not None:
        preprocessed = study.folders["nnUNet_preprocessed"] / folder.name
        ready = context.jobs.get(f"preprocess-{dataset.name}")
        if ready and state.is_done(study.folder, ready):
            return cases_of_installed(preprocessed)
        return cases_of_folds(folder, preprocessed)
    return cases_of_synthetic(dataset.synthetic) if dataset.synthetic else {}


def training_cases(context: Context) -> Found:
    """Find data sets that get no folds, and trainings on more cases than their folds have."""
    known: dict[str, dict[int | str, int]] = {}
    for name, dataset in context.study.datasets.items():
        if f"convert-{name}" not in context.jobs:  # nothing uses it
            continue
        try:
            known[name] = _cases_of_folds(context, dataset)
        except DataError as error:
            place: Place = ("datasets", name)
            yield place, context.finding(place, str(error))
        else:
            yield from _cases_without_fold(context, dataset)
    for place, number, name, used in asked_for(context.study, context.document.content):
        counts = known.get(name, {})
        for fold in used:
            if number > counts.get(fold, number):
                what = "all of" if fold == ALL else f"fold {fold} of"
                message = f"{what} {name} has {counted(counts[fold], 'training case')}, not {number}"
                yield place, context.finding(place, message)


def _cases_without_fold(context: Context, dataset: Dataset) -> Found:
    """Find cases that came to a raw data set after an earlier run had made its folds."""
    raw = None if dataset.converter or dataset.synthetic else raw_folder(context.study, dataset)
    if raw is None:
        return
    preprocessed = context.study.folders["nnUNet_preprocessed"] / raw.name
    if left := without_fold(raw, preprocessed):
        place: Place = ("datasets", dataset.name)
        message = (
            f"{shortened(left, 3)} {verb(len(left), 'is', 'are')} in no fold of {preprocessed / FILE_NAME}, which an earlier run "
            f"made, and so neither trained on nor validated; remove that file for new folds"
        )
        yield place, context.finding(place, message, stops=False)
