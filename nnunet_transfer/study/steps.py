"""The work of each kind of step. Each step runs in its own process and can be rerun at any time."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_transfer.api.comparison import compare
from nnunet_transfer.api.data import convert, install_splits
from nnunet_transfer.api.models import plan
from nnunet_transfer.api.sources import add_source, fetch_source, rank_sources
from nnunet_transfer.errors import StudyError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.locks import locked
from nnunet_transfer.paths import dataset_name, nnunet_preprocessed, nnunet_raw, sources_folder
from nnunet_transfer.plans import write_chosen_plans
from nnunet_transfer.registration import did_you_mean
from nnunet_transfer.study import state
from nnunet_transfer.study.description import BEST, Dataset, Study
from nnunet_transfer.study.environment import environment
from nnunet_transfer.study.jobs import Job
from nnunet_transfer.study.own_folds import own_folds
from nnunet_transfer.study.trainings import finetune, pretrain, set_aside
from nnunet_transfer.tables import read_rows

if TYPE_CHECKING:
    from nnunet_transfer.conversion.plan import Options
    from nnunet_transfer.plans.transfer_plans import PlanSettings

#: number of voxels that is enough for percentiles of the demo's small images
SYNTHETIC_VOXELS = 1_000_000
#: the same for studies without a GPU, where nnU-Net's hundred million take minutes and gigabytes
ONE_CORE_VOXELS = 10_000_000


def run_job(study: Study, job: Job) -> None:
    """Run one step in this process unless it is done; its mark is written on success.

    Raises
    ------
    TransferError
        If the step fails.
    """
    with environment(study, job), state.at_work(study.folder, job) as needed:
        if needed:
            STEPS[job.kind](study, job)


def _convert(study: Study, job: Job) -> None:
    dataset = study.datasets[job.settings["dataset"]]
    if dataset.synthetic:
        _make_synthetic(study, dataset)
        return
    if not dataset.converter:
        from nnunet_transfer._nnunet import verify_cases_in_process

        verify_cases_in_process(dataset.number)
        return
    assert dataset.path is not None  # required by the schema
    convert(dataset.converter, dataset.path, dataset.number, conversion_options(study, dataset))


def _make_synthetic(study: Study, dataset: Dataset) -> None:
    from nnunet_transfer.synthetic.datasets import DATASETS

    if other := other_than_synthetic(study, dataset):
        raise StudyError(f"id {dataset.number} {other}")
    if _owns_raw(study):  # perhaps of another seed
        for made in nnunet_raw().glob(f"Dataset{dataset.number:03d}_Demo*"):
            shutil.rmtree(made)
    if not any(nnunet_raw().glob(f"Dataset{dataset.number:03d}_*")):
        DATASETS[dataset.synthetic][1](nnunet_raw(), dataset.number, dataset.seed)


def other_than_synthetic(study: Study, dataset: Dataset) -> str:
    """Say that another data set has the id of one of the demo's and would be used in its place; empty if none has.

    In the study's own folder the demo's data sets are made again.
    """
    from nnunet_transfer.synthetic.datasets import difference

    for folder in sorted(study.folders["nnUNet_raw"].glob(f"Dataset{dataset.number:03d}_*")):
        if _owns_raw(study) and "_Demo" in folder.name:
            continue
        if text := difference(folder, dataset.synthetic, dataset.seed):
            return f"is that of {text}; choose another, or remove that data set"
    return ""


def conversion_options(study: Study, dataset: Dataset) -> Options:
    """Return the options of a data set's conversion; data sets in the study's own folder are overwritten."""
    from nnunet_transfer.conversion.plan import Options

    values = dict(dataset.options)
    if "channels" in values:
        values["channels"] = tuple(values["channels"])
    settings = {key: str(value) for key, value in values.pop("settings", {}).items()}
    if "table" in settings:
        settings["table"] = _table(study, dataset, settings["table"])
    values["dataset_options"] = settings
    return Options(**values, processes=study.resources["convert"].cpus, overwrite=_owns_raw(study))


def _table(study: Study, dataset: Dataset, text: str) -> str:
    """Return the path of a table, which starts in the file's folder as all paths in the file do: steps run in another one.

    To a user's own converter, a table may be something else than a file.
    """
    path = study.path(text)
    return str(path) if path.is_file() or not dataset.converter.endswith(".py") else text


def _owns_raw(study: Study) -> bool:
    """Whether nnU-Net's raw folder is the study's own."""
    return study.folders["nnUNet_raw"].is_relative_to(study.folder)


def _plan(study: Study, job: Job) -> None:
    from nnunet_transfer._nnunet import extract_fingerprint_in_process, refuse_unlabelled

    dataset = study.datasets[job.settings["dataset"]]
    name, cpus = dataset_name(dataset.number), study.resources["plan"].cpus
    with _dataset_locked(name):
        refuse_unlabelled(name)
        if dataset.synthetic:
            extract_fingerprint_in_process(name, foreground_voxels=SYNTHETIC_VOXELS)
        elif cpus == 1:
            extract_fingerprint_in_process(name, foreground_voxels=ONE_CORE_VOXELS)
        else:
            from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset

            extract_fingerprint_dataset(dataset.number, num_processes=cpus, clean=True, verbose=False)
        _without_foreign_splits(name)
        settings = _plan_settings(job.settings["configurations"], dataset.plans)
        plan(name, profile=study.profile, settings=settings, overwrite=True)


def _plan_settings(configurations: Sequence[str], plans: Mapping[str, Any], **more: Any) -> PlanSettings:
    from nnunet_transfer.plans.transfer_plans import PlanSettings

    chosen = {{"spacing": "target_spacing"}.get(key, key): value for key, value in plans.items()}
    return PlanSettings(tuple(configurations), **chosen, **more)


def _without_foreign_splits(name: str) -> None:
    """Remove the folds of an earlier conversion, because nnU-Net's planner refuses folds that differ from the raw folder's."""
    kept = nnunet_preprocessed() / name / "splits_final.json"
    raw = nnunet_raw() / name / "splits_final.json"
    if raw.is_file() and kept.is_file() and read_json(raw) != read_json(kept):
        kept.unlink()


def _preprocess(study: Study, job: Job) -> None:
    from nnunet_transfer._nnunet import preprocess_in_process

    dataset = study.datasets[job.settings["dataset"]]
    name, cpus = dataset_name(dataset.number), study.resources["preprocess"].cpus
    folder = nnunet_preprocessed() / name
    configurations = job.settings["configurations"]
    with _dataset_locked(name):
        # nnU-Net keeps existing files: cases of an earlier conversion would remain
        shutil.rmtree(folder / "gt_segmentations", ignore_errors=True)
        if cpus == 1:
            preprocess_in_process(name, study.plans_name(), configurations)
        else:
            from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

            preprocess_dataset(
                dataset.number, study.plans_name(), configurations, num_processes=[cpus] * len(configurations)
            )
        if (nnunet_raw() / name / "splits_final.json").is_file():
            install_splits(name, overwrite=True)
        elif not (folder / "splits_final.json").is_file():
            # do this now instead of when many trainings start at once
            write_json(folder / "splits_final.json", own_folds(name, study.plans_name(), configurations[0]))


@contextlib.contextmanager
def _dataset_locked(name: str) -> Iterator[None]:
    """Prevent two steps, of any studies, from writing to the same preprocessed data set at the same time."""
    with locked(nnunet_preprocessed() / f".{name}.lock"):
        yield


def _add(study: Study, job: Job) -> None:
    from nnunet_transfer.checkpoints import Provenance, Reading, is_address

    source = study.sources[job.settings["source"]]
    registered = sources_folder() / source.name
    if registered.exists() and not registered.is_relative_to(study.folder):
        set_aside(registered)  # other studies also use the registry
    if source.fetch:
        fetch_source(source.fetch, save_as=source.name, overwrite=True)
        return
    details = source.details
    address = source.checkpoint
    add_source(
        address if is_address(address) else study.path(address),
        source.name,
        task=details["task"],
        domain=details["domain"],
        provenance=Provenance(licence=details.get("licence", ""), trained_on=tuple(details.get("trained_on", ()))),
        reading=Reading(key_map=source.key_map),
        sha256=details.get("sha256", ""),
        overwrite=True,
    )


def _rank(study: Study, job: Job) -> None:
    from nnunet_transfer.ranking.rank import RankSettings, write_ranking

    target = study.targets[job.settings["target"]]
    name, fold = dataset_name(study.datasets[target.dataset].number), job.settings["fold"]
    rows = rank_sources(
        name, study.configuration, study.plans_name(), job.settings["sources"], settings=RankSettings(fold=fold)
    )
    write_ranking(rows, study.ranking_file(target.name, fold), target=name, fold=fold)


def _link(study: Study, job: Job) -> None:
    target = study.targets[job.settings["target"]]
    dataset = study.datasets[target.dataset]
    name = dataset_name(dataset.number)
    if job.settings["source"] == BEST:
        chosen = {fold: _first(study.ranking_file(target.name, fold), study.sources) for fold in job.settings["folds"]}
        with _dataset_locked(name):
            write_chosen_plans(name, study.plans_name(), study.plans_name(BEST), BEST, chosen)
        return
    with _dataset_locked(name):
        # only the data of the study's own plans are preprocessed
        settings = _plan_settings([study.configuration], dataset.plans, base_plans=study.plans_name())
        plan(name, profile=study.profile, source=job.settings["source"], settings=settings, overwrite=True)


def _first(ranking: Path, sources: Collection[str]) -> str:
    """Return the source that ranks first."""
    (_, header), *rows = read_rows(ranking)
    places = [dict(zip(header, cells, strict=False)) for _, cells in rows]
    ranked = [row for row in places if row["rank"] and row["source"] in sources]
    if not ranked:
        notes = [f"{row['source']}: {row['note']}" for row in places if row["source"] in sources]
        raise StudyError(f"no source of the study can be ranked: {'; '.join(notes)}")
    return min(ranked, key=lambda row: int(row["rank"]))["source"]


def _compare(study: Study, job: Job) -> None:
    out = study.folder / "comparison" / job.settings["target"]
    compare_targets(study, [job.settings["target"]], out, tables_only=True)


def _report(study: Study, job: Job) -> None:
    compare_targets(study, list(study.targets), report_folder(study))


def report_folder(study: Study) -> Path:
    """Return the folder of the report on all targets."""
    return study.folder / "report"


def compare_targets(
    study: Study, targets: list[str], out: Path, *, arms: list[str] | None = None, tables_only: bool = False
) -> Path:
    """Compare the study's arms on some targets; return the report's path.

    Parameters
    ----------
    arms : names of the arms; default: all
    tables_only : as in `CompareSettings`
    """
    from nnunet_transfer.comparison import CompareSettings, ReportText

    chosen = dict(study.comparison)
    note = chosen.pop("note", "")
    if study.baseline:
        chosen["baseline"] = study.baseline
    datasets = {study.datasets[study.targets[t].dataset].number: study.targets[t] for t in targets}
    settings = CompareSettings(
        protocols={number: target.protocols for number, target in datasets.items()},
        configuration=study.configuration,
        plans=study.plans_name(),
        # the results folder may also hold arms of an earlier profile, or of another study
        transfer_plans=tuple(study.plans_name(arm.source) for arm in study.arms if arm.named_in_plans),
        tables_only=tables_only,
        **chosen,
    )
    return compare(
        list(datasets),
        out=out,
        arms=arms or [arm.name for arm in study.arms],
        settings=settings,
        processes=study.resources["compare"].cpus,
        scores_folder=study.folder / "scores",
        text=ReportText(
            note,
            name=study.name,
            command=f"nnunet_transfer study run {shlex.quote(study.file.name)}",
            rankings=_rankings(study, targets),
        ),
    ).report


def _rankings(study: Study, targets: Sequence[str]) -> tuple[Path, ...]:
    files = [study.ranking_file(name, fold) for name in targets for fold in study.targets[name].folds]
    ranked = any(arm.source == BEST for arm in study.arms)
    return tuple(file for file in files if ranked and file.is_file())


STEPS: dict[str, Callable[[Study, Job], None]] = {
    "convert": _convert,
    "plan": _plan,
    "preprocess": _preprocess,
    "add": _add,
    "pretrain": pretrain,
    "rank": _rank,
    "link": _link,
    "finetune": finetune,
    "compare": _compare,
    "report": _report,
}


def find_job(jobs: Mapping[str, Job], key: str) -> Job:
    """Return a job by name, with or without its digest.

    Raises
    ------
    StudyError
        If there is no such job, or its digest differs because the description has changed.
    """
    job = jobs.get(key) or jobs.get(key.rpartition(".")[0])
    if job is None:
        raise StudyError(f"the study has no step {key}; {did_you_mean(key, jobs, most=3)}")
    if key not in (job.name, job.key):
        raise StudyError(f"step {job.name} was changed in the study file since it was submitted; run the study again")
    return job
