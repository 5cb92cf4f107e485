"""Find problems that would stop or invalidate a study, before its first step."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_transfer.errors import ComparisonError, DataError, SettingsError, TransferError
from nnunet_transfer.files import read_json
from nnunet_transfer.gpus import visible_gpus
from nnunet_transfer.paths import FOLDERS
from nnunet_transfer.sources.leakage import donor_warnings, overlap_warnings
from nnunet_transfer.study import state
from nnunet_transfer.study.description import Dataset, Source, Study, Target
from nnunet_transfer.study.document import Place, read_document
from nnunet_transfer.study.engine import NO_SNAKEMAKE
from nnunet_transfer.study.environment import folders_set
from nnunet_transfer.study.estimates import GB, Estimate
from nnunet_transfer.study.findings import Context, Finding, Found, raw_folder
from nnunet_transfer.study.fold_checks import folds, too_few_groups, too_few_planned, training_cases
from nnunet_transfer.study.jobs import study_jobs
from nnunet_transfer.study.raw_data import check_raw_dataset
from nnunet_transfer.study.steps import conversion_options, other_than_synthetic
from nnunet_transfer.subjects import MADE_FROM, donors_in
from nnunet_transfer.words import counted, shortened

if TYPE_CHECKING:
    from nnunet_transfer.conversion.plan import Plan

_CLASSES = "classes.csv"
#: number of cases in a message
_SHOWN = 3
#: converters for any data with a certain layout; two data sets from such a converter may differ
_GENERIC = ("t1_bids", "t1_folder", "imagefolder", "freesurfer")


def check_study(study: Study, estimate: Estimate) -> list[Finding]:
    """Return all problems and warnings, in the order of the file."""
    context = Context(study, read_document(study.file), estimate, study_jobs(study))
    found = [(place, finding) for check in _CHECKS for place, finding in check(context)]
    ordered = sorted(found, key=lambda pair: context.document.line(pair[0]))
    # two checks may stumble over the same
    return list(dict.fromkeys(finding for _, finding in ordered))


def _datasets(context: Context) -> Found:
    for name, dataset in context.study.datasets.items():
        place: Place = ("datasets", name)
        if dataset.converter:
            yield from _converted(context, dataset, place)
        elif dataset.synthetic:
            if other := other_than_synthetic(context.study, dataset):
                yield (*place, "id"), context.finding((*place, "id"), other)
        elif known := raw_folder(context.study, dataset):
            try:
                warnings = check_raw_dataset(known)
            except DataError as error:
                yield place, context.finding(place, str(error))
            else:
                yield from ((place, context.finding(place, text, stops=False)) for text in warnings)
        else:
            raw, folder = context.study.folders["nnUNet_raw"], f"Dataset{dataset.number:03d}_*"
            incomplete = next((f"{found} has no dataset.json" for found in sorted(raw.glob(folder))), "")
            missing = f"no {folder} in {raw}; give converter and path, or its folder as folders.raw"
            yield place, context.finding(place, incomplete or missing)


def _converted(context: Context, dataset: Dataset, place: Place) -> Found:
    from nnunet_transfer.conversion.catalogue import get_description
    from nnunet_transfer.conversion.plan import check_id, dataset_folder_name, plan_conversion

    try:
        description = get_description(dataset.converter)
    except TransferError as error:
        yield (*place, "converter"), context.finding((*place, "converter"), str(error))
        return
    known = {"label_set": description.label_sets, "channels": description.all_channels()}
    for option, choices in known.items():
        given = dataset.options.get(option, ())
        for value in [given] if isinstance(given, str) else given:
            if choices and value not in choices:
                where = (*place, "options", option)
                yield where, context.finding(where, f"unknown '{value}'; there are: {', '.join(choices)}")
                return
    job = context.jobs.get(f"convert-{dataset.name}")
    if job is None or dataset.path is None or state.is_done(context.study.folder, job):
        return
    options = conversion_options(context.study, dataset)
    taken = False
    try:
        name = dataset_folder_name(dataset.number, options.name or description.folder_name)
        check_id(name, [context.study.folders[variable] for variable in FOLDERS])
    except TransferError as error:
        taken = True
        yield (*place, "id"), context.finding((*place, "id"), str(error))
    where = (*place, "path")
    if not dataset.path.is_dir():
        yield where, context.finding(where, f"the folder {dataset.path} doesn't exist; correct the path")
        return
    if taken:
        return
    try:
        with folders_set(context.study):
            plan = plan_conversion(description, dataset.path, dataset.number, options)
    except SettingsError as error:
        where = (*place, "options") if dataset.options else place
        yield where, context.finding(where, str(error))
    except TransferError as error:
        yield where, context.finding(where, str(error))
    else:
        for fault in _faults(plan):
            yield where, context.finding(where, fault)
        yield from too_few_groups(context, dataset, plan)
        yield from too_few_planned(context, dataset, plan)


def _faults(plan: Plan) -> Iterator[str]:
    """Yield what a conversion would refuse before its first case, because file names tell."""
    problems, options = plan.found.problems, plan.options
    if problems and not options.allow_skips:
        shown = shortened([f"{problem.case}: {problem.reason}" for problem in problems], _SHOWN)
        yield (
            f"{counted(len(problems), 'case')} can't be converted ({shown}); correct them, or leave them out with "
            "options.allow_skips: true"
        )
    if not any(case.split == "train" for case in plan.cases):
        yield "no case has a label; is it the right folder?"


def _sources(context: Context) -> Found:
    for name, source in context.study.sources.items():
        place: Place = ("sources", name)
        if source.fetch or source.checkpoint:
            yield from _published(context, source, place)
        if source.key_map and not source.key_map.is_file():
            where = (*place, "map")
            yield where, context.finding(where, f"{source.key_map} doesn't exist; correct the path")
        yield from _classes(context, source, place)


def _published(context: Context, source: Source, place: Place) -> Found:
    # this imports torch, which most studies don't need
    from nnunet_transfer.checkpoints import is_address
    from nnunet_transfer.checkpoints.catalogue import CATALOGUE

    if source.fetch and source.fetch not in CATALOGUE:
        where = (*place, "fetch")
        yield where, context.finding(where, f"unknown '{source.fetch}'; there are: {', '.join(CATALOGUE)}")
    if source.checkpoint and not is_address(source.checkpoint):
        file = context.study.path(source.checkpoint)
        if not file.exists():
            yield (
                (*place, "checkpoint"),
                context.finding((*place, "checkpoint"), f"{file} doesn't exist; correct the path"),
            )


def _classes(context: Context, source: Source, place: Place) -> Found:
    if source.trainer is None or source.trainer.base != "nnUNetPretrainerClassification":
        return
    dataset = context.study.datasets[source.dataset]
    folder = raw_folder(context.study, dataset)
    if folder is not None and not dataset.converter and not (folder / _CLASSES).is_file():
        where = (*place, "pretrain")
        yield where, context.finding(where, f"{folder} has no {_CLASSES}; classification needs one (case,class)")


def _leakage(context: Context) -> Found:
    study = context.study
    used = {source for arm in study.arms for source in study.sources_of(arm)}
    for name, source in study.sources.items():
        place: Place = ("sources", name)
        for target in study.targets.values() if name in used else ():
            message, seen = _overlap(study, source, target)
            if message:
                yield place, context.finding(place, message, stops=seen and not study.allow_leakage)


def _overlap(study: Study, source: Source, target: Target) -> tuple[str, bool]:
    """Describe what a source and a target share (empty if nothing), and whether they share the data set itself."""
    if source.dataset == target.dataset:
        message = f"is trained on the target {target.name}, whose test cases it would see; use other data"
        return f"{message}, or set allow_leakage: true", True
    known_as = _known_as(study, study.datasets[target.dataset])
    if source.dataset and (shared := _shared_folder(study.datasets[source.dataset], study.datasets[target.dataset])):
        message = f"is trained on data in {shared}, and so is the target {target.name}; use other data"
        return f"{message}, or set allow_leakage: true", True
    trained_on = _trained_on(study, source)
    if same := set(trained_on) & set(known_as):
        if min(same) in _GENERIC or min(same).endswith(".py"):
            return f"target {target.name} is also converted by {min(same)}; check that they share no subjects", False
        message = f"was trained on {min(same)}, which is the target {target.name}; use another source"
        return f"{message}, or set allow_leakage: true", True
    warnings = [w for name in known_as for w in overlap_warnings(trained_on, name)]
    if source.dataset:
        donors, theirs = (
            donors_in(_description(study, study.datasets[name])).values() for name in (source.dataset, target.dataset)
        )
        warnings += [w for name in known_as for w in donor_warnings(donors, name, theirs)]
    return (f"target {target.name}: {warnings[0]}", False) if warnings else ("", False)


def _shared_folder(one: Dataset, other: Dataset) -> Path | None:
    """Return the inner folder if one data folder contains or equals the other."""
    if one.path is None or other.path is None:
        return None
    paths = sorted((one.path.resolve(), other.path.resolve()), key=lambda path: len(path.parts))
    return paths[1] if paths[1].is_relative_to(paths[0]) else None


def _trained_on(study: Study, source: Source) -> list[str]:
    if source.dataset:
        dataset = study.datasets[source.dataset]
        return [*_known_as(study, dataset), *_description(study, dataset).get(MADE_FROM, ())]
    stated = list(source.details.get("trained_on", ()))
    if source.fetch:
        from nnunet_transfer.checkpoints.catalogue import CATALOGUE

        entry = CATALOGUE.get(source.fetch)
        stated += entry.trained_on if entry else ()
    return stated


def _description(study: Study, dataset: Dataset) -> dict[str, Any]:
    """Return the dataset.json of a raw data set; empty if it doesn't exist yet."""
    folder = raw_folder(study, dataset)
    try:
        content = read_json(folder / "dataset.json") if folder else {}
    except DataError:
        return {}
    return content if isinstance(content, dict) else {}


def _known_as(study: Study, dataset: Dataset) -> list[str]:
    """Return the names that identify a data set."""
    if dataset.converter or dataset.synthetic:
        return [dataset.converter or dataset.synthetic]
    folder = raw_folder(study, dataset)
    return [dataset.name, *([folder.name] if folder else [])]


def _arms(context: Context) -> Found:
    study = context.study
    arms = {arm.source for arm in study.arms}
    used = {source for arm in study.arms for source in study.sources_of(arm)}
    for name in study.sources:
        if name not in used:
            place: Place = ("sources", name)
            yield place, context.finding(place, "no arm starts from it, but it is made anyway", stops=False)
    if None not in arms and "baseline" not in study.comparison:
        yield ("arms",), context.finding(("arms",), "there is no arm scratch to compare with", stops=False)
    if study.device == "cuda" and not visible_gpus():
        message = "no GPU is visible here; run it where there is one, or on a cluster with --profile"
        yield ("device",), context.finding(("device",), message, stops=False)
    if study.device == "cpu" and study.configuration != "2d":
        message = f"{study.configuration} on a CPU takes very long; use 2d, or device: cuda"
        yield ("device",), context.finding(("device",), message, stops=False)


def _baselines(context: Context) -> Found:
    """Find arms that the comparison would refuse after all trainings."""
    # imported here: the comparison needs pandas, which is slow to import
    from nnunet_transfer.comparison.baselines import choose_baselines
    from nnunet_transfer.comparison.results import Arm, Run
    from nnunet_transfer.comparison.settings import DEFAULT_BASELINE

    study = context.study
    runs = []
    for own in study.arms:
        trained = replace(own, trainer=replace(own.trainer, seed=None))
        arm = Arm(trained.name, trained.name, trained.trainer, own.source)
        runs.append(Run(arm, own.trainer.seed, Path(f"{own.trainer}__"), study.plans_name(), study.configuration))
    try:
        choose_baselines(runs, study.baseline or DEFAULT_BASELINE, study.name)
    except ComparisonError as error:
        yield ("arms",), context.finding(("arms",), f"comparison.baseline has to name one arm: {error}")


def _machine(context: Context) -> Found:
    if importlib.util.find_spec("snakemake") is None:
        yield (), Finding(NO_SNAKEMAKE)
    needed: dict[int, tuple[Path, float]] = {}
    for variable, gigabytes in context.estimate.gigabytes.items():
        place = context.study.folders[variable]
        while not place.exists():
            place = place.parent
        if not place.is_dir() or not os.access(place, os.W_OK):
            yield (), Finding(f"{context.study.folders[variable]} is not writable; check the permissions of {place}")
            continue
        device = place.stat().st_dev
        needed[device] = (place, needed.get(device, (place, 0.0))[1] + gigabytes)
    for place, gigabytes in needed.values():
        free = shutil.disk_usage(place).free / GB
        if gigabytes > free:
            message = f"not enough disk: about {gigabytes:,.0f} GB will be written to {place}, {free:,.0f} GB are free"
            yield (), Finding(message)


_CHECKS: tuple[Callable[[Context], Found], ...] = (
    _datasets,
    _sources,
    _leakage,
    folds,
    training_cases,
    _arms,
    _baselines,
    _machine,
)
