"""Train one arm in this process and write the validation cases' Dice at some points of the training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from trainings import PLANS, one_thread, variables

from nnunet_transfer.files import write_json

if TYPE_CHECKING:
    from nnunet_transfer.training.base import NamedTrainer

#: the network halves its input three times
MULTIPLE = 8


def measure_curve(
    dataset: int,
    trainer: str,
    fold: int,
    out: Path,
    *,
    configuration: str,
    epochs: Sequence[int],
    sources: Path | None = None,
) -> None:
    """Train without checkpoints; write the mean Dice of the validation cases after each of these epochs.

    Parameters
    ----------
    epochs : 0 is before the first step, after the weights entered and the output layers were fitted
    sources : another registry than that of the environment
    """
    import torch

    from nnunet_transfer._nnunet import run_training_in_process
    from nnunet_transfer.trainers import get_trainer_class

    base = get_trainer_class(trainer)
    curve: dict[int, float] = {}
    last: list[list[float]] = []

    class Measured(base):  # type: ignore[misc, valid-type]
        def initialize(self) -> None:
            super().initialize()
            self.dataset_class = in_memory(self)

        def on_train_start(self) -> None:
            self.disable_checkpointing = True
            self.num_val_iterations_per_epoch = 1
            super().on_train_start()
            self.logger.plot_progress_png = self.logger.plot_now = lambda *_: None
            self.measure()

        def on_epoch_end(self) -> None:
            super().on_epoch_end()
            if self.current_epoch in epochs:
                self.measure()

        def measure(self) -> None:
            last[:] = validation_dice(self)
            curve[self.current_epoch * self.num_iterations_per_epoch] = mean_dice(last)

        def perform_actual_validation(self, save_probabilities: bool = False) -> None:
            pass

    # nnU-Net names the folder after the class
    Measured.__name__ = base.__name__
    start = time.monotonic()
    with variables({} if sources is None else {"nnUNet_sources": str(sources)}), one_thread():
        run_training_in_process(dataset, configuration, fold, Measured, PLANS, device=torch.device("cpu"))
    write_json(out, {"curve": curve, "last": last, "seconds": time.monotonic() - start})


def in_memory(trainer: NamedTrainer) -> type:
    """Return nnU-Net's class of preprocessed cases, keeping what it has read: opening a file costs as much as using it."""
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    class InMemory(infer_dataset_class(trainer.preprocessed_dataset_folder)):  # type: ignore[misc]
        kept: dict[str, Any] = {}  # noqa: RUF012 - one training's cases, whichever object reads them

        def load_case(self, identifier: str) -> Any:
            if identifier not in self.kept:
                data, labels, previous, properties = super().load_case(identifier)
                self.kept[identifier] = np.asarray(data[:]), np.asarray(labels[:]), previous, properties
            return self.kept[identifier]

    return InMemory


def validation_dice(trainer: NamedTrainer) -> list[list[float]]:
    """Return the Dice of each validation case and label; whole slices or volumes are predicted, without mirroring."""
    import torch

    labels = trainer.label_manager.foreground_labels
    cases = trainer.do_split()[1]
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, cases)
    flat = len(trainer.configuration_manager.patch_size) == 2
    scores = []
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    for case in cases:
        data, reference, _, _ = dataset.load_case(case)
        volume, truth = np.asarray(data[:]), np.asarray(reference[:])[0]
        images = np.moveaxis(volume, 0, 1) if flat else volume[None]
        size = images.shape[2:]
        padding = ((0, 0), (0, 0), *((0, -n % MULTIPLE) for n in size))
        with torch.inference_mode():
            predicted = trainer.network(torch.from_numpy(np.pad(images, padding))).argmax(1).numpy()
        predicted = predicted[(slice(None), *(slice(n) for n in size))]
        scores.append(dice_per_label(predicted if flat else predicted[0], truth, labels))
    trainer.set_deep_supervision_enabled(True)
    return scores


def mean_dice(scores: Sequence[Sequence[float]]) -> float:
    """Return the mean over labels of the mean over cases.

    A label that is neither in the reference nor in the prediction does not count, as in nnU-Net.
    """
    return float(np.nanmean(np.nanmean(scores, axis=0)))


def dice_per_label(predicted: np.ndarray, reference: np.ndarray, labels: Sequence[int]) -> list[float]:
    """Return the Dice of each label, NaN for one that is in neither array."""
    masks = [(predicted == label, reference == label) for label in labels]
    return [float(2 * (p & r).sum() / (p.sum() + r.sum())) if p.any() or r.any() else float("nan") for p, r in masks]
