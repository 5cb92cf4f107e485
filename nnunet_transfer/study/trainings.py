"""The training steps: each uses a fold's folder that records its job."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from nnunet_transfer.errors import DataError, SourceError, StudyError
from nnunet_transfer.files import holds_nothing, read_json, write_json
from nnunet_transfer.folds import read_folds
from nnunet_transfer.locks import locked
from nnunet_transfer.naming import TRANSFER
from nnunet_transfer.paths import dataset_name, nnunet_preprocessed, nnunet_results, sources_folder
from nnunet_transfer.sources.card import read_card
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.gpus import one_gpu
from nnunet_transfer.study.jobs import Job
from nnunet_transfer.study.reading import read_study

logger = logging.getLogger(__name__)

#: file in a fold's folder that records its job
ORIGIN_FILE = "study_job.json"
SUPERSEDED = "superseded"


def pretrain(study: Study, job: Job) -> None:
    """Train a source."""
    source = study.sources[job.settings["source"]]
    os.environ["nnUNet_source_name"] = source.name
    dataset = study.datasets[source.dataset]
    registered = sources_folder() / source.name
    training = _Training(study, job, dataset.number, source.configuration, source.fold, study.plans_name())
    begun = training.is_begun()
    training.folder()  # refuses a fold of others before anything is moved
    if registered.exists() and not (begun and training.has_made(registered)):
        # made for another description of this source; everything fine-tuned from it is also outdated
        set_aside(registered)
    training.run()


def finetune(study: Study, job: Job) -> None:
    """Train an arm on a fold of a target."""
    target = study.targets[job.settings["target"]]
    dataset = study.datasets[target.dataset]
    source = job.settings["source"] if job.settings["trainer"].split("_")[0] == TRANSFER else None
    training = _Training(
        study, job, dataset.number, study.configuration, job.settings["fold"], study.plans_name(source)
    )
    training.run()


class _Training:
    """One run of `nnUNetv2_train`, resumed from its last checkpoint if it was started for the same job."""

    def __init__(self, study: Study, job: Job, dataset: int, configuration: str, fold: int | str, plans: str) -> None:
        self.study, self.job = study, job
        self.dataset, self.configuration, self.fold, self.plans = dataset, configuration, fold, plans
        self.trainer: str = job.settings["trainer"]

    def is_begun(self) -> bool:
        """Whether the fold in place is a training for this job."""
        return _digest_of(self._fold()) == self.job.digest

    def has_made(self, registered: Path) -> bool:
        """Whether a source in the registry is from a training in this fold, going by its card."""
        try:
            card = read_card(registered)
        except SourceError:
            return False
        made = {"trainer": self.trainer, "plans": self.plans, "configuration": self.configuration, "fold": self.fold}
        same = all(str(card.extra.get(key)) == str(value) for key, value in made.items())
        return same and dataset_name(self.dataset) in card.trained_on

    def folder(self) -> Path:
        """Return nnU-Net's folder of the fold, after moving aside a training for another job and taking back one for this."""
        fold = self._fold()
        if not holds_nothing(fold):
            digest = _digest_of(fold)
            if digest is None or (digest != self.job.digest and _is_of_another_study(fold, self.study)):
                raise DataError(
                    f"{fold} was not trained by this study; move it away, or give the study another results folder"
                )
            if digest != self.job.digest:
                set_aside(fold)
        if holds_nothing(fold):
            self._take_back(fold)
        return fold

    def _take_back(self, fold: Path) -> None:
        """Restore a training for this job that was moved aside for another description, which has been undone."""
        for kept in sorted(fold.parent.glob(f".{SUPERSEDED}-*-{fold.name}")):
            if _digest_of(kept) == self.job.digest:
                shutil.rmtree(fold, ignore_errors=True)
                os.replace(kept, fold)
                logger.info("%s was made for this description of this study; it was moved back to %s", kept, fold)
                return

    def _fold(self) -> Path:
        model = f"{self.trainer}__{self.plans}__{self.configuration}"
        return nnunet_results() / dataset_name(self.dataset) / model / f"fold_{self.fold}"

    def run(self) -> None:
        """Train and validate."""
        model, name = os.path.split(self._fold())
        # another study may run the same training
        with locked(Path(model) / f".{name}.lock"):
            self._run()

    def _run(self) -> None:
        import torch

        self._check_fold()
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
                    continue_training=True,  # restarts if there is no checkpoint
                )
                return
            from nnunet_transfer._nnunet import run_stock_training
            from nnunet_transfer.discovery import VARIABLE, search_path

            os.environ[VARIABLE] = search_path(os.environ.get(VARIABLE, ""))
            run_stock_training(self.dataset, self.configuration, self.fold, self.trainer, self.plans, device=device)

    def _check_fold(self) -> None:
        """Refuse a fold that the data set doesn't have: nnU-Net would draw a random split, which overlaps the others."""
        name = dataset_name(self.dataset)
        path = nnunet_preprocessed() / name / "splits_final.json"
        count = len(read_folds(path)) if path.is_file() else None
        if count is not None and isinstance(self.fold, int) and self.fold >= count:
            raise StudyError(
                f"{name} has the folds 0 to {count - 1}, not {self.fold}; correct the folds in the study file"
            )


def _digest_of(fold: Path) -> str | None:
    """Return the digest of the job that a fold was trained for; None if unknown."""
    try:
        return str(read_json(fold / ORIGIN_FILE)["digest"])
    except (DataError, KeyError, TypeError):
        return None


def _is_of_another_study(fold: Path, study: Study) -> bool:
    """Whether a fold with a digest belongs to another study that still exists and uses the same folder."""
    file = Path(str(read_json(fold / ORIGIN_FILE).get("study", "")))
    if file == study.file or not file.is_file():
        return False
    try:
        return read_study(file).folders["nnUNet_results"] == study.folders["nnUNet_results"]
    except StudyError:
        return False


def set_aside(path: Path) -> None:
    """Rename output of another description so that nothing reads it."""
    number = 1
    while (kept := path.parent / f".{SUPERSEDED}-{number}-{path.name}").exists():
        number += 1
    os.replace(path, kept)
    logger.info("%s was made for another description of this study; it was moved to %s", path, kept)
