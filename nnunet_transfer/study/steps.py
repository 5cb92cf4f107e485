"""What each kind of step does. Steps are run one per process, and can be run again at any time."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError, StudyError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.naming import TRANSFER
from nnunet_transfer.paths import dataset_name, nnunet_preprocessed, nnunet_raw, nnunet_results, sources_folder
from nnunet_transfer.study import marks
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.gpus import one_gpu
from nnunet_transfer.study.jobs import Job

logger = logging.getLogger(__name__)

#: in a fold's folder: for which job it was trained
ORIGIN_FILE = "study_job.json"
#: what is enough for percentiles of the demo's small images
SYNTHETIC_VOXELS = 1_000_000
SUPERSEDED = "superseded"


def run_job(study: Study, job: Job) -> None:
    """Do one step in this process, unless it is done; its mark is written when it has ended well.

    Raises
    ------
    TransferError
        If the step can't be done.
    """
    with environment(study, job), marks.at_work(study.folder, job) as needed:
        if needed:
            STEPS[job.kind](study, job)


@contextlib.contextmanager
def environment(study: Study, job: Job) -> Iterator[None]:
    """Set nnU-Net's folders, its numbers of processes, and the study's own variables."""
    before = dict(os.environ)
    os.environ.update(variables(study, job))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def variables(study: Study, job: Job) -> dict[str, str]:
    """Return the environment variables of a step."""
    cpus = study.resources[job.kind].cpus
    for folder in study.folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    alone = study.device == "cpu"
    return {
        **{name: str(folder) for name, folder in study.folders.items()},
        # on a processor, where each training has one core, all work is done in the training's own process
        "nnUNet_n_proc_DA": "0" if alone else str(cpus),
        "nnUNet_def_n_proc": "0" if alone and _is_ours(job) else str(max(1, cpus // 2)),
        **({"nnUNet_compile": "f", "OMP_NUM_THREADS": "1"} if alone else {}),
        **study.environment,
    }


def _is_ours(job: Job) -> bool:
    return job.kind in ("pretrain", "finetune")


def _convert(study: Study, job: Job) -> None:
    dataset = study.datasets[job.settings["dataset"]]
    if dataset.synthetic:
        from nnunet_transfer.demo.datasets import DATASETS

        if not any(nnunet_raw().glob(f"Dataset{dataset.number:03d}_*")):
            DATASETS[dataset.synthetic][1](nnunet_raw(), dataset.number, dataset.seed)
        return
    if not dataset.converter:
        dataset_name(dataset.number)
        return
    from nnunet_transfer.dataset_conversion.catalogue import get_description
    from nnunet_transfer.dataset_conversion.engine import convert
    from nnunet_transfer.dataset_conversion.plan import Options, plan_conversion

    assert dataset.path is not None  # the schema asks for it
    own = study.folders["nnUNet_raw"].is_relative_to(study.folder)
    values = dict(dataset.options)
    if "channels" in values:
        values["channels"] = tuple(values["channels"])
    values["settings"] = {key: str(value) for key, value in values.get("settings", {}).items()}
    options = Options(**values, processes=study.resources["convert"].cpus, overwrite=own)
    convert(plan_conversion(get_description(dataset.converter), dataset.path, dataset.number, options))


def _plan(study: Study, job: Job) -> None:
    from nnunet_transfer._nnunet import extract_fingerprint_in_process
    from nnunet_transfer.plans import write_transfer_plans

    dataset = study.datasets[job.settings["dataset"]]
    name, cpus = dataset_name(dataset.number), study.resources["plan"].cpus
    with _dataset_locked(study, dataset.name):
        if dataset.synthetic:
            extract_fingerprint_in_process(name, foreground_voxels=SYNTHETIC_VOXELS)
        elif cpus == 1:
            extract_fingerprint_in_process(name)
        else:
            from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset

            extract_fingerprint_dataset(dataset.number, num_processes=cpus, clean=True, verbose=False)
        _without_foreign_splits(name)
        write_transfer_plans(
            name,
            profile=study.profile,
            configurations=job.settings["configurations"],
            overwrite=True,
            **_plans_settings(dataset.plans),
        )


def _plans_settings(plans: Mapping[str, Any]) -> dict[str, Any]:
    return {{"spacing": "target_spacing"}.get(key, key): value for key, value in plans.items()}


def _without_foreign_splits(name: str) -> None:
    """Remove the folds of an earlier conversion: nnU-Net's planner refuses folds that differ from the raw data's."""
    kept = nnunet_preprocessed() / name / "splits_final.json"
    raw = nnunet_raw() / name / "splits_final.json"
    if raw.is_file() and kept.is_file() and read_json(raw) != read_json(kept):
        kept.unlink()


def _preprocess(study: Study, job: Job) -> None:
    from nnunet_transfer._nnunet import default_splits, preprocess_in_process
    from nnunet_transfer.dataset_conversion.install import install_splits

    dataset = study.datasets[job.settings["dataset"]]
    name, cpus = dataset_name(dataset.number), study.resources["preprocess"].cpus
    folder = nnunet_preprocessed() / name
    configurations = job.settings["configurations"]
    with _dataset_locked(study, dataset.name):
        # nnU-Net adds to what lies there: cases of an earlier conversion would stay
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
            # now, and not when many trainings start at once
            write_json(folder / "splits_final.json", default_splits(name, study.plans_name(), configurations[0]))


@contextlib.contextmanager
def _dataset_locked(study: Study, dataset: str) -> Iterator[None]:
    """Keep two steps from writing into one preprocessed data set at a time."""
    with marks.locked(study.folder / marks.LOCKS / f"dataset-{dataset}.lock"):
        yield


def _add(study: Study, job: Job) -> None:
    from nnunet_transfer.checkpoints import Provenance, Reading, add_source, downloaded, is_address
    from nnunet_transfer.checkpoints.catalogue import fetch_source

    source = study.sources[job.settings["source"]]
    if source.fetch:
        fetch_source(source.fetch, save_as=source.name, overwrite=True)
        return
    details = source.details
    address = source.checkpoint
    provenance = Provenance(
        licence=details.get("licence", ""),
        trained_on=tuple(details.get("trained_on", ())),
        address=address if is_address(address) else "",
    )
    reading = Reading(key_map=Path(details["map"]) if "map" in details else None)
    with contextlib.ExitStack() as stack:
        sha256 = details.get("sha256", "")
        file = stack.enter_context(downloaded(address, sha256)) if is_address(address) else study.file.parent / address
        add_source(
            file,
            source.name,
            task=details["task"],
            domain=details["domain"],
            provenance=provenance,
            reading=reading,
            overwrite=True,
        )


def _link(study: Study, job: Job) -> None:
    from nnunet_transfer.plans import write_transfer_plans

    target = study.targets[job.settings["target"]]
    dataset = study.datasets[target.dataset]
    with _dataset_locked(study, dataset.name):
        write_transfer_plans(
            dataset_name(dataset.number),
            profile=study.profile,
            source=job.settings["source"],
            configurations=[study.configuration],
            overwrite=True,
            **_plans_settings(dataset.plans),
        )


def _pretrain(study: Study, job: Job) -> None:
    source = study.sources[job.settings["source"]]
    os.environ["nnUNet_source_name"] = source.name
    dataset = study.datasets[source.dataset]
    registered = sources_folder() / source.name
    training = _Training(study, job, dataset.number, source.configuration, source.fold, study.plans_name())
    folder = training.folder()
    if not (folder / ORIGIN_FILE).is_file() and registered.exists():
        # made for another description of this source; whatever was fine-tuned from it is superseded, too
        _set_aside(registered, registered.parent)
    training.run()


def _finetune(study: Study, job: Job) -> None:
    target = study.targets[job.settings["target"]]
    dataset = study.datasets[target.dataset]
    source = job.settings["source"] if job.settings["trainer"].split("_")[0] == TRANSFER else None
    training = _Training(
        study, job, dataset.number, study.configuration, job.settings["fold"], study.plans_name(source)
    )
    training.run()


class _Training:
    """One `nnUNetv2_train`, on from its last checkpoint if it was begun for the same job."""

    def __init__(self, study: Study, job: Job, dataset: int, configuration: str, fold: int | str, plans: str) -> None:
        self.study, self.job = study, job
        self.dataset, self.configuration, self.fold, self.plans = dataset, configuration, fold, plans
        self.trainer: str = job.settings["trainer"]

    def folder(self) -> Path:
        """Return the fold's folder as nnU-Net names it, with a training for another job set aside."""
        model = f"{self.trainer}__{self.plans}__{self.configuration}"
        fold = nnunet_results() / dataset_name(self.dataset) / model / f"fold_{self.fold}"
        if fold.is_dir() and any(fold.iterdir()):
            origin = read_json(fold / ORIGIN_FILE) if (fold / ORIGIN_FILE).is_file() else None
            if origin is None:
                raise DataError(
                    f"{fold} was not trained by this study; move it away, or give the study another results folder"
                )
            if origin["digest"] != self.job.digest:
                _set_aside(fold, fold.parent)
        return fold

    def run(self) -> None:
        """Train and validate."""
        import torch

        fold = self.folder()
        write_json(fold / ORIGIN_FILE, {"job": self.job.name, "digest": self.job.digest, "study": str(self.study.file)})
        with one_gpu(self.study):
            device = torch.device(self.study.device)
            if self.study.device == "cpu":
                from nnunet_transfer._nnunet import run_training_in_process
                from nnunet_transfer.trainers import get_trainer_class

                torch.set_num_threads(1)
                run_training_in_process(
                    self.dataset,
                    self.configuration,
                    self.fold,
                    get_trainer_class(self.trainer),
                    self.plans,
                    device=device,
                    continue_training=True,  # starts anew where there is no checkpoint
                )
                return
            from nnunet_transfer._nnunet import run_stock_training
            from nnunet_transfer.discovery import VARIABLE, search_path

            os.environ[VARIABLE] = search_path(os.environ.get(VARIABLE, ""))
            run_stock_training(self.dataset, self.configuration, self.fold, self.trainer, self.plans, device=device)


def _set_aside(path: Path, parent: Path) -> None:
    """Keep what was made for another description, under a name that nothing reads."""
    number = 1
    while (kept := parent / f".{SUPERSEDED}-{number}-{path.name}").exists():
        number += 1
    os.replace(path, kept)
    logger.info("%s was made for another description of this study; it was moved to %s", path, kept)


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
    tables_only : as in `compare`
    """
    from nnunet_transfer.comparison import compare

    settings = dict(study.comparison)
    wanted = settings.pop("baseline", None)
    baselines = {arm.source or "scratch": arm.trainer.base for arm in study.arms}
    chosen = {"baseline": baselines.get(wanted, wanted)} if wanted else {}
    datasets = {study.datasets[study.targets[t].dataset].number: study.targets[t] for t in targets}
    return compare(
        list(datasets),
        out=out,
        arms=arms or [arm.name for arm in study.arms],
        configuration=study.configuration,
        plans=study.plans_name(),
        protocols={number: target.protocols for number, target in datasets.items()},
        processes=study.resources["compare"].cpus,
        scores_folder=study.folder / "scores",
        tables_only=tables_only,
        **settings,
        **chosen,
    ).report


STEPS: dict[str, Callable[[Study, Job], None]] = {
    "convert": _convert,
    "plan": _plan,
    "preprocess": _preprocess,
    "add": _add,
    "pretrain": _pretrain,
    "link": _link,
    "finetune": _finetune,
    "compare": _compare,
    "report": _report,
}


def find_job(jobs: Mapping[str, Job], key: str) -> Job:
    """Return the job of a name, with or without its digest.

    Raises
    ------
    StudyError
        If there is none, or the digest is another one: the description was changed meanwhile.
    """
    job = jobs.get(key) or jobs.get(key.rpartition(".")[0])
    if job is None:
        raise StudyError(f"the study has no step {key}; see `nnunet_transfer study status`")
    if key not in (job.name, job.key):
        raise StudyError(f"step {job.name} was changed in the study's file since it was submitted; run the study again")
    return job
