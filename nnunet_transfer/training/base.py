"""Base class of all trainers of this package: name grammar, seeds, atomic checkpoints, one-line errors."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import distributed

from nnunet_transfer._nnunet import unwrapped, validate_in_process
from nnunet_transfer.errors import DataError, SettingsError, TransferError
from nnunet_transfer.files import atomic_path, remove_leftovers
from nnunet_transfer.naming import TrainerName
from nnunet_transfer.run_record import FILE, beginning, recorded_run
from nnunet_transfer.subjects import MANIFEST, find_origin, manifest_folder, ordered_by_subject
from nnunet_transfer.training.device_augmentation import (
    AugmentedBatches,
    augments_on_device,
    forget_prepared,
    loaders_with_device_augmentation,
    nnunets_own,
)
from nnunet_transfer.training.one_line import is_full_disk, one_line_errors
from nnunet_transfer.training.progress_plot import ThrottledPlots
from nnunet_transfer.training.provenance import CASES_KEY, Recorder, digest_of_cases, sha256_or_none
from nnunet_transfer.training.seeding import blur_without_timing, seed_everything
from nnunet_transfer.training.sides import lateralised
from nnunet_transfer.words import counted, shortened, verb

#: stream 0 seeds the network; epoch e uses stream e + 1
INITIALISATION_STREAM = 0
#: seed of the order of cases for `_<N>cases`; a constant, so that arms are comparable
CASES_SEED = 0


class NamedTrainer(nnUNetTrainer):
    """nnU-Net's trainer, configured by its class name.

    There is no `__init__`, because nnU-Net stores the constructor's arguments in checkpoints by name. The settings are class
    attributes, which are derived from the name when the class is built.

    Attributes
    ----------
    settings : the parsed name
    """

    settings: ClassVar[TrainerName]
    #: whether the trainer learns voxel labels
    segments: ClassVar[bool] = True
    # nnU-Net sets None first and replaces or wraps it later
    network: Any
    plans_manager: Any  # pretrainers put their own plans in its place
    dataloader_train: Any
    dataloader_val: Any
    #: share of patches around foreground in the batches of all processes together; None before initialisation
    whole_oversampling: float | None = None
    _recorder: Recorder | None = None
    _augments_on_device = False

    def initialize(self) -> None:
        """Apply the settings and the seed, then build network, optimiser and loss as in nnU-Net."""
        if not self.was_initialized:
            self.apply_settings()
            if self.settings.seed is not None:
                seed_everything(self.settings.seed, INITIALISATION_STREAM)
            self.logger: Any = ThrottledPlots(self.logger)
        super().initialize()
        self._initial_weights = _sums(unwrapped(self.network))

    def _set_batch_size_and_oversample(self) -> None:
        """Set this process's share of a batch as in nnU-Net, and note the whole batch's share of foreground."""
        if self.whole_oversampling is None:
            self.whole_oversampling = self.oversample_foreground_percent
        super()._set_batch_size_and_oversample()

    def apply_settings(self) -> None:
        """Set the numbers of epochs and iterations in the trainer's name."""
        if self.settings.epochs is not None:
            self.num_epochs = self.settings.epochs
        if self.settings.iterations is not None:
            # nnU-Net's own ratio of training to validation iterations, 250 to 50
            self.num_val_iterations_per_epoch = max(1, self.settings.iterations // 5)
            self.num_iterations_per_epoch = self.settings.iterations
        with one_line_errors():
            self.apply_own_settings()

    def apply_own_settings(self) -> None:
        """Hook: settings of a kind of trainer before the network is built; `TransferError`s are printed as one line."""

    def on_train_start(self) -> None:
        """Run all checks that don't need loaded data, then start as in nnU-Net."""
        with one_line_errors():
            if not self.was_initialized:
                self.initialize()
            self._augments_on_device = augments_on_device(self.device, self.print_to_log_file)
            self.check_before_training()
            self._warn_of_sides()
            if self.current_epoch == 0:
                self._check_starts_at_random()
                self.prepare_fresh_network()
        self._recorder = self._new_recorder() if self.local_rank == 0 else None
        super().on_train_start()
        if self._recorder:
            # not what was asked for: some transforms stay in the workers
            self._recorder.note(augmentation_on_device=isinstance(self.dataloader_train, AugmentedBatches))

    def _check_starts_at_random(self) -> None:
        if not torch.equal(_sums(unwrapped(self.network)), self._initial_weights):
            raise SettingsError(
                f"the records of {self.__class__.__name__} wouldn't say what other weights were trained on; drop "
                f"-pretrained_weights, or use nnUNetTrainer with it"
            )

    def _warn_of_sides(self) -> None:
        sided = lateralised(self.dataset_json.get("labels", {})) if self.segments else ()
        if sided and not self.settings.no_mirroring:
            self.print_to_log_file(
                f"WARNING: {counted(len(sided), 'label')} {verb(len(sided), 'is', 'are')} told apart by "
                f"{verb(len(sided), 'its', 'their')} side ({shortened(sided, 3)}), but training and prediction "
                f"mirror images; add _noMirroring to the trainer's name"
            )

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802 - nnU-Net's
        """Return nnU-Net's settings; with `_noMirroring`, without mirroring, also in inference."""
        *settings, mirror_axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if self.settings.no_mirroring:
            mirror_axes = self.inference_allowed_mirroring_axes = None
        return (*settings, mirror_axes)

    def _new_recorder(self) -> Recorder:
        return Recorder(
            self.output_folder,
            self.run_facts(),
            epoch=self.current_epoch,
            device=self.device,
            processes=distributed.get_world_size() if self.is_ddp else 1,
        )

    def run_facts(self) -> dict[str, Any]:
        """Return the facts of the run for `provenance.json`; None for unknown or missing values."""
        training, validation = self.do_split()
        folder = Path(self.preprocessed_dataset_folder_base)
        return {
            "trainer": self.__class__.__name__,
            **{key: value for key, value in asdict(self.settings).items() if key not in ("epochs", "iterations")},
            **({"recipe": None} if self.settings.own_schedule else {}),
            "dataset": self.plans_manager.dataset_name,
            "configuration": self.configuration_name,
            "fold": self.fold,
            "plans": self.plans_manager.plans_name,
            "plans_sha256": sha256_or_none(folder / f"{self.plans_manager.plans_name}.json"),
            "fingerprint_sha256": sha256_or_none(folder / "dataset_fingerprint.json"),
            "splits_sha256": sha256_or_none(folder / "splits_final.json"),
            "training_cases": len(training),
            "validation_cases": len(validation),
            CASES_KEY: digest_of_cases(training, validation),
            "epochs": self.num_epochs,
            "iterations_per_epoch": self.num_iterations_per_epoch,
            "batch_size": self.configuration_manager.batch_size,
            "source": self.source_facts(),
        }

    def source_facts(self) -> dict[str, str] | None:
        """Hook: return name and SHA-256 of the source that the network starts from, if any and if it still exists."""
        return None

    def check_before_training(self) -> None:
        """Raise a `TransferError` for anything that would invalidate the training."""
        training, validation = self.do_split()
        for cases, role in ((training, "training"), (validation, "validation")):
            if not cases:
                raise DataError(
                    f"fold {self.fold} of {self.plans_manager.dataset_name} has no {role} cases; fix "
                    f"splits_final.json in {self.preprocessed_dataset_folder_base}"
                )
        present = set(self.dataset_class.get_identifiers(self.preprocessed_dataset_folder))
        missing = sorted({*training, *validation} - present)
        if missing:
            raise DataError(
                f"{counted(len(missing), 'case')} of fold {self.fold} {verb(len(missing), 'is', 'are')} not in "
                f"{self.preprocessed_dataset_folder}: {', '.join(missing[:5])}; run nnUNetv2_preprocess or fix splits_final.json"
            )

        self._check_previous_stage([*training, *validation])
        self._check_subjects(training)

    def _check_subjects(self, training: Sequence[str]) -> None:
        """Log who the chosen cases are of; refuse `_<N>cases` if the data set's own table of subjects can't be looked for."""
        if self.settings.cases is None:
            return
        name, preprocessed = self.plans_manager.dataset_name, Path(self.preprocessed_dataset_folder_base)
        folder = manifest_folder(name)
        if folder is None or not folder.is_dir():
            missing = f"there is no {folder}" if folder else "nnUNet_raw is not set, the folder with the raw data sets"
            raise DataError(
                f"{self.__class__.__name__} chooses training cases by subject, but {missing}, whose {MANIFEST} may name the "
                f"subjects; by the cases' names alone, other cases could be chosen than for other arms: set nnUNet_raw to the "
                f"folder that holds {name}, or copy the {MANIFEST} that `nnunet_transfer plan` wrote beside the preprocessed "
                f"data to {preprocessed}"
            )
        everything, _ = super().do_split()
        orders = [ordered_by_subject(everything, place, CASES_SEED) for place in (folder, preprocessed)]
        if (preprocessed / MANIFEST).is_file() and orders[0] != orders[1]:
            raise DataError(
                f"{preprocessed / MANIFEST} names other subjects than {folder}, so that other cases would be chosen where only "
                f"the preprocessed data are; write it again with `nnunet_transfer plan`, or remove it"
            )
        self.print_to_log_file(
            f"{len(training)} of {counted(len(everything), 'training case')} chosen by subject. "
            f"{find_origin(everything, folder).statement}"
        )

    def _check_previous_stage(self, cases: Sequence[str]) -> None:
        """Check that the first stage of a cascade has predicted these cases."""
        if not self.is_cascaded:
            return
        folder = Path(self.folder_with_segs_from_previous_stage)
        predicted = {path.stem for path in folder.iterdir()} if folder.is_dir() else set()
        if missing := sorted(set(cases) - predicted):
            first = self.configuration_manager.previous_stage_name
            raise DataError(
                f"{self.configuration_name} reads what {first} predicted for each case, but {folder} "
                f"lacks {len(missing)} of {counted(len(cases), 'case')} ({shortened(missing, 3)}); "
                f"first train and validate every fold of {first} with the same -tr and -p"
            )

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return nnU-Net's split; with `_<N>cases` only the first N training cases of a fixed order.

        The order is fixed and keeps the cases of a subject together: the first 5 cases are among the first 10, and all arms
        and seeds train on the same cases.

        Raises
        ------
        DataError
            If the fold has fewer training cases.
        """
        training, validation = super().do_split()
        wanted = self.settings.cases
        if wanted is None:
            return training, validation
        if wanted > len(training):
            raise DataError(
                f"{self.__class__.__name__} asks for {wanted} training cases, but fold {self.fold} of "
                f"{self.plans_manager.dataset_name} has {len(training)}"
            )
        ordered = ordered_by_subject(training, manifest_folder(self.plans_manager.dataset_name), CASES_SEED)
        return ordered[:wanted], validation

    def prepare_fresh_network(self) -> None:
        """Hook: change the weights of a network that starts at epoch 0."""

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return nnU-Net's loaders, which augment in their workers or, if so set, on the device."""
        make = super().get_dataloaders
        loaders = loaders_with_device_augmentation(self, make) if self._augments_on_device else make()
        if self.settings.seed is not None:
            for loader in loaders:
                if isinstance(loader, SingleThreadedAugmenter):  # worker processes don't use the seed
                    blur_without_timing(loader.data_loader.transforms)
        return loaders

    def on_epoch_start(self) -> None:
        """Seed each epoch by its number, so that a resumed run draws the same numbers as an uninterrupted one."""
        if self.settings.seed is not None:
            seed_everything(self.settings.seed, self.current_epoch + 1, self.local_rank)
            forget_prepared(self.dataloader_train, self.dataloader_val)
        super().on_epoch_start()

    def on_epoch_end(self) -> None:
        """End the epoch as in nnU-Net and record it in `provenance.json`."""
        super().on_epoch_end()
        if self._recorder:
            self._recorder.update(self.current_epoch)

    def on_train_end(self) -> None:
        """End the training as in nnU-Net, with a final progress plot."""
        self.dataloader_train, self.dataloader_val = map(nnunets_own, (self.dataloader_train, self.dataloader_val))
        super().on_train_end()
        if self.local_rank == 0:
            self.logger.plot_now(self.output_folder)
        if self._recorder:
            self._recorder.update(self.current_epoch, finished=True)

    def save_checkpoint(self, filename: str) -> None:
        """Save under a temporary name and rename, so that `--c` never finds an incomplete checkpoint."""
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        remove_leftovers(Path(filename))
        with one_line_errors():
            try:
                with atomic_path(filename) as temporary:
                    super().save_checkpoint(str(temporary))
            except (OSError, RuntimeError) as error:
                if not is_full_disk(error):
                    raise
                raise TransferError(
                    f"no space left to write {filename}; free some and continue with --c (an earlier "
                    f"complete checkpoint is kept)"
                ) from error

    def load_checkpoint(
        self,
        filename_or_checkpoint: dict[str, Any] | str | None = None,
        *,
        checkpoint: dict[str, Any] | str | None = None,
    ) -> None:
        """Load a checkpoint of this trainer.

        Parameters
        ----------
        filename_or_checkpoint, checkpoint : the same argument, with its names in nnU-Net's releases and development branch

        Raises
        ------
        SystemExit
            If the checkpoint is unreadable, was written by a trainer with another name, that is, by another recipe or
            schedule, or is older than the training that the folder's records describe.
        """
        given = filename_or_checkpoint if checkpoint is None else checkpoint
        with one_line_errors():
            content = given if isinstance(given, dict) else _read_checkpoint(str(given))
            written_by = content.get("trainer_name")
            if written_by != self.__class__.__name__:
                raise SettingsError(
                    f"the checkpoint in {self.output_folder} was written by {written_by}, not by "
                    f"{self.__class__.__name__}; continue with -tr {written_by} or remove the folder"
                )
            self._check_recipe_of_earlier_sessions()
            self._check_same_training(content)
            self._check_same_cases()
        super().load_checkpoint(given)

    def _check_recipe_of_earlier_sessions(self) -> None:
        """Refuse to continue a training that an earlier version started with another default recipe."""
        earlier = recorded_run(Path(self.output_folder)).get("recipe") or self.settings.recipe
        if earlier != self.settings.recipe:
            raise SettingsError(
                f"{self.output_folder} was trained with the recipe {earlier}, the default of an earlier version; "
                f"finish it with that version, or start again as {replace(self.settings, recipe=earlier)}"
            )

    def _check_same_training(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint from before a later start without `--c`, whose source and record are now in the folder."""
        started = beginning(Path(self.output_folder))
        epochs = (checkpoint.get("logging") or {}).get("epoch_start_timestamps")
        if started is not None and epochs and epochs[0] < started:
            raise DataError(
                f"the checkpoint in {self.output_folder} is of an earlier training than {FILE} and all else there, which were "
                f"written when this one was started without --c; remove checkpoint_*.pth and train again, or, to go on with the "
                f"earlier one, remove {FILE}"
            )

    def _check_same_cases(self) -> None:
        """Refuse to continue or validate a training that began with other cases: it may have seen what is validated now."""
        begun = recorded_run(Path(self.output_folder)).get(CASES_KEY)
        if begun not in (None, digest_of_cases(*self.do_split())):
            needed = "splits_final.json and the preprocessed cases"
            if self.settings.cases is not None:
                needed += f", and the data set's {MANIFEST} in nnUNet_raw, from which the cases were chosen"
            raise DataError(
                f"fold {self.fold} of {self.plans_manager.dataset_name} has other training or validation cases than when the "
                f"training in {self.output_folder} began, so the network may have been trained on cases that would now be "
                f"validated; restore {needed}, or remove the folder and train again"
            )

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as in nnU-Net; with `nnUNet_def_n_proc=0`, in this process, without export workers."""
        with one_line_errors():
            self._check_previous_stage(self.do_split()[1])
        if os.environ.get("nnUNet_def_n_proc") == "0" and not self.is_ddp:
            validate_in_process(self, save_probabilities)
        else:
            super().perform_actual_validation(save_probabilities)


def _sums(network: torch.nn.Module) -> torch.Tensor:
    """Return the sum of each parameter, a cheap way to detect changed weights."""
    with torch.no_grad():
        return torch.stack([p.sum() for p in network.parameters()])


def _read_checkpoint(filename: str) -> dict[str, Any]:
    try:
        # nnU-Net's checkpoints hold its logger's NumPy scalars, which weights_only refuses; this file lies in the
        # user's own result folder and nnU-Net itself reads it this way. Memory-mapped: the tensors are not read.
        return dict(torch.load(filename, map_location="cpu", weights_only=False, mmap=True))
    except (OSError, RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{filename} can't be read ({str(error).splitlines()[0]}); remove it and continue with --c from an "
            f"earlier checkpoint, or train again"
        ) from None
