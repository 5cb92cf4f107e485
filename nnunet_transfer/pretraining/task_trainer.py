"""The base of pretrainers without segmentation: their network, scores and validation."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from torch import distributed, nn

from nnunet_transfer._nnunet import unwrapped
from nnunet_transfer.errors import DataError, PlansError, SettingsError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.pretraining.task import PretrainingTask
from nnunet_transfer.pretraining.trainer import PretrainingTrainer
from nnunet_transfer.pretraining.training_plans import TrainingPlans
from nnunet_transfer.training.one_line import one_line_errors, one_line_full_disk

#: He et al., CVPR 2016 (doi:10.1109/CVPR.2016.90), section 3.4. Per unit of gradient it moves the weights as far as
#: nnU-Net's 0.01 at momentum 0.99, but answers within ten iterations instead of a hundred, which matters where the
#: training is short: trained on 2000 CIFAR-10 images, a small U-Net's encoder reached an accuracy of 0.20 instead of
#: 0.11 after 400 iterations (0.39 with both after 1500), and masked autoencoding explained 0.27 instead of 0.22 of the
#: variance after 300 (0.32 and 0.31 after 1200)
LEARNING_RATE = 0.1
MOMENTUM = 0.9

T = TypeVar("T")


class TaskPretrainer(PretrainingTrainer):
    """A pretrainer whose network gives no segmentation.

    Data loading, schedule and checkpoints are nnU-Net's; the optimiser has another momentum. nnU-Net's logger requires Dice
    values for its plot and to choose the best checkpoint; the task's own score (higher is better) replaces them. There are no
    masks, so nnUNetv2_predict refuses to run and nnUNetv2_find_best_configuration has nothing to compare.
    """

    segments: ClassVar[bool] = False
    #: the task
    task_type: ClassVar[type[PretrainingTask]]
    task: PretrainingTask

    def apply_own_settings(self) -> None:
        """Switch off settings for segmentation, then prepare the task, whose network may depend on the data set."""
        if self.is_cascaded:
            raise PlansError(
                f"{self.configuration_name} is the second stage of a cascade and needs a segmentation; pre-train "
                f"on another configuration, for instance 3d_fullres"
            )
        self.enable_deep_supervision = False
        self.oversample_foreground_percent = 0.0
        self.initial_lr = LEARNING_RATE
        self.task = self.task_type(self)
        # nnU-Net stores the plans with the model and in its checkpoints
        self.plans_manager.plans.update(self.task.record())
        # as many outputs as inputs, as reconstruction needs; other tasks replace the outputs
        inputs = determine_num_input_channels(self.plans_manager, self.configuration_manager, self.dataset_json)
        self.plans_manager = TrainingPlans(self.plans_manager.plans, outputs=inputs, finish=self.task.network)

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the task's network for training; refuse inference, because the outputs are not masks.

        Raises
        ------
        SystemExit
            For inference, with a message in one line.
        """
        with one_line_errors():
            if not isinstance(plans_manager, TrainingPlans):
                raise SettingsError(
                    "this model was pre-trained without segmentation and predicts no masks; fine-tune from its source, "
                    "and find its scores in validation/summary.json"
                )
            assert plans_manager.finish is not None
            return plans_manager.finish(
                nnUNetTrainer.build_network_architecture(
                    plans_manager,
                    configuration_manager,
                    num_input_channels,
                    plans_manager.outputs,
                    enable_deep_supervision,
                )
            )

    @property
    def source_parts(self) -> str:
        """Parts of the network that the task trains."""
        return self.task.source_parts

    @property
    def source_method(self) -> str:
        """The task's method in the source's name."""
        return self.task_type.method

    def source_details(self) -> dict[str, Any]:
        """Return the task's entries in the card."""
        return self.task.details()

    def check_before_training(self) -> None:
        """Also refuse data that the task can't learn from."""
        super().check_before_training()
        self.task.check_before_training()

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Load a checkpoint of the same task with the same outputs and settings."""
        if not self.was_initialized:
            self.initialize()
        plans = Path(self.output_folder_base) / "plans.json"
        with one_line_errors():
            if plans.is_file():  # before loading: other outputs would not fit
                self.task.check_same(read_json(plans), same_fold=False)
        super().load_checkpoint(*args, **kwargs)
        with one_line_errors():
            self.task.check_same(self.my_init_kwargs["plans"], same_fold=True)

    def _build_loss(self) -> nn.Module:
        with one_line_errors():
            return self.task.loss().to(self.device)

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """Return the training transforms of nnU-Net that the task uses."""
        return self.task.training_transforms(nnUNetTrainer.get_training_transforms(*args, **kwargs))

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """Return nnU-Net's data sets; the training set may repeat cases."""
        training, validation = super().get_tr_and_val_datasets()
        training.identifiers = self.task.sampled(training.identifiers)
        return training, validation

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Run nnU-Net's training step with the task's input and target."""
        return super().train_step(self.task.training_batch(batch))

    def on_validation_epoch_start(self) -> None:
        """Start as in nnU-Net, then prepare the task."""
        super().on_validation_epoch_start()
        self.task.on_validation_epoch_start()

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the task's loss and scores of a batch of patches."""
        return self.task.validate_batch(batch)

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Return nnU-Net's optimiser and polynomial decay, with this trainer's momentum."""
        optimizer, schedule = super().configure_optimizers()
        for group in optimizer.param_groups:
            group["momentum"] = MOMENTUM
        return optimizer, schedule

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: the network has no deep supervision."""

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Return nnU-Net's choice: mixed precision on CUDA only."""
        return torch.autocast("cuda") if self.device.type == "cuda" else contextlib.nullcontext()

    def gathered(self, items: Sequence[T]) -> list[T]:
        """Return the items of all processes."""
        if not self.is_ddp:
            return list(items)
        parts: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, list(items))
        return [item for part in parts for item in part]

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Log the loss and, where nnU-Net logs Dice, the task's score and its parts."""
        outputs = self.gathered(val_outputs)
        name, score, parts = self.task.epoch_score(outputs)
        self.logger.log("mean_fg_dice", score, self.current_epoch)
        self.logger.log("dice_per_class_or_region", parts, self.current_epoch)
        for other in self.logger.loggers:  # such as Weights & Biases; nnU-Net's own log only accepts fixed names
            other.log(name, score, self.current_epoch)
        self.logger.log("val_losses", float(np.mean([output["loss"] for output in outputs])), self.current_epoch)
        self.print_to_log_file(f"{name} (nnU-Net's log calls it pseudo Dice): {score:.4f}")

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Score the validation fold's cases and write `validation/summary.json`; there are no masks to write."""
        training, validation = self.do_split()
        with one_line_errors():
            if not validation:
                raise DataError(
                    f"fold {self.fold} of {self.plans_manager.dataset_name} has no validation cases; fix "
                    f"splits_final.json in {self.preprocessed_dataset_folder_base}"
                )
        network = unwrapped(self.network).eval()
        cases = sorted(validation)
        world = distributed.get_world_size() if self.is_ddp else 1
        with torch.inference_mode(), self.precision():
            scored = [(case, self.task.score_case(network, case)) for case in cases[self.local_rank :: world]]
        results = dict(self.gathered(scored))
        if self.local_rank == 0:
            folder = Path(self.output_folder) / "validation"
            summary = self.task.summarise(cases, [results[case] for case in cases])
            summary["validated_on_training_cases"] = bool(set(training) & set(validation))
            with (
                one_line_errors(),
                one_line_full_disk(f"the summary to {folder}; free some and validate again with --val"),
            ):
                with torch.inference_mode(), self.precision():
                    self.task.draw(network, cases, folder)
                write_json(folder / "summary.json", summary)
            settings = self.source_details()
            numbers = {k: v for k, v in summary.items() if isinstance(v, float) and k not in settings}
            self.print_to_log_file("Validation complete:", ", ".join(f"{k} {v:.4f}" for k, v in numbers.items()))
            for key, value in numbers.items():
                self.logger.log_summary(f"final_val/{key}", value)
            with one_line_errors():
                self.note_learning()

    def case_image(self, case: str) -> torch.Tensor:
        """Return a preprocessed case, float32 of shape `(channel, z, y, x)`, on the CPU."""
        data, *_ = self.dataset_class(self.preprocessed_dataset_folder, [case]).load_case(case)
        return torch.from_numpy(np.array(data[:], dtype=np.float32))
