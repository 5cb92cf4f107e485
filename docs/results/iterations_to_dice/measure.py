"""Train one arm in this process and write the validation cases' Dice at some points of the training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from trainings import PLANS, one_thread, variables

from nnunet_transfer.files import write_json

if TYPE_CHECKING:
    from nnunet_transfer.training.base import NamedTrainer

#: the network halves its input three times
MULTIPLE = 8
#: of the moving average of weights, per iteration: about the last 100
AVERAGE_DECAY = 0.99


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

    The same of the moving average of the weights stands beside it.

    Parameters
    ----------
    epochs : 0 is before the first step, after the weights entered and the output layers were fitted
    sources : another registry than that of the environment
    """
    from nnunet_transfer.trainers import get_trainer_class

    base = get_trainer_class(trainer)
    curve: dict[int, float] = {}
    averaged: dict[int, float] = {}
    last: list[list[float]] = []

    class Measured(base):  # type: ignore[misc, valid-type]
        def initialize(self) -> None:
            super().initialize()
            prepare_network(self)

        def get_dataloaders(self) -> tuple[Any, Any]:
            return tuple(Kept(loader, self, i) for i, loader in enumerate(super().get_dataloaders()))

        def on_epoch_start(self) -> None:
            self.started = True
            super().on_epoch_start()

        def on_train_start(self) -> None:
            self.disable_checkpointing = True
            self.num_val_iterations_per_epoch = 1
            super().on_train_start()
            self.logger.plot_progress_png = self.logger.plot_now = lambda *_: None
            self.average = Average(self.network)
            self.measure()

        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            result: dict[str, Any] = super().train_step(batch)
            self.average.update(self.network)
            return result

        def on_epoch_end(self) -> None:
            super().on_epoch_end()
            if self.current_epoch in epochs:
                self.measure()

        def measure(self) -> None:
            iterations = self.current_epoch * self.num_iterations_per_epoch
            last[:] = validation_dice(self)
            curve[iterations] = mean_dice(last)
            with self.average.applied(self.network):
                averaged[iterations] = mean_dice(validation_dice(self))

        def perform_actual_validation(self, save_probabilities: bool = False) -> None:
            pass

    # nnU-Net names the folder after the class
    Measured.__name__ = base.__name__
    start = time.monotonic()
    with variables({} if sources is None else {"nnUNet_sources": str(sources)}), one_thread():
        run(dataset, configuration, fold, Measured)
    write_json(out, {"curve": curve, "averaged": averaged, "last": last, "seconds": time.monotonic() - start})


def make_source(
    dataset: int, trainer: str, out: Path, *, name: str, sources: Path, configuration: str = "2d", fold: int = 0
) -> None:
    """Pre-train a source; write the mean Dice of each label over its own validation cases, measured as for curves.

    Parameters
    ----------
    name : of the source
    sources : the registry that it enters
    """
    from nnunet_transfer.trainers import get_trainer_class

    base = get_trainer_class(trainer)
    found: dict[str, float] = {}

    class Quick(base):  # type: ignore[misc, valid-type]
        def initialize(self) -> None:
            super().initialize()
            prepare_network(self)

        def on_train_start(self) -> None:
            super().on_train_start()
            self.logger.plot_progress_png = self.logger.plot_now = lambda *_: None

        def perform_actual_validation(self, save_probabilities: bool = False) -> None:
            names = {value: name for name, value in self.dataset_json["labels"].items()}
            means = np.nanmean(validation_dice(self), axis=0).tolist()
            found.update(zip((names[label] for label in self.label_manager.foreground_labels), means, strict=True))

    Quick.__name__ = base.__name__
    start = time.monotonic()
    with variables({"nnUNet_source_name": name, "nnUNet_sources": str(sources)}), one_thread():
        run(dataset, configuration, fold, Quick, continue_training=True)
    mean = float(np.nanmean(list(found.values())))
    write_json(out, {"mean": mean, "labels": found, "seconds": time.monotonic() - start})


def run(dataset: int, configuration: str, fold: int, trainer: type, *, continue_training: bool = False) -> None:
    """Train on one core."""
    import torch

    from nnunet_transfer._nnunet import run_training_in_process

    device = torch.device("cpu")
    run_training_in_process(
        dataset, configuration, fold, trainer, PLANS, device=device, continue_training=continue_training
    )


class Average:
    """An exponential moving average of a network's weights; the first steps count more, so that it isn't held back."""

    def __init__(self, network: Any) -> None:
        self.weights = {name: weights.detach().clone() for name, weights in network.state_dict().items()}
        self.steps = 0

    def update(self, network: Any) -> None:
        """Add the present weights."""
        self.steps += 1
        share = 1 - min(AVERAGE_DECAY, (1 + self.steps) / (10 + self.steps))
        for name, weights in network.state_dict().items():
            self.weights[name].lerp_(weights.detach(), share)

    @contextlib.contextmanager
    def applied(self, network: Any) -> Iterator[None]:
        """Give the network the average for a while."""
        own = {name: weights.detach().clone() for name, weights in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)


def prepare_network(trainer: NamedTrainer) -> None:
    """Keep the cases in memory, and let the optimiser go through all weights at once."""
    trainer.dataset_class = in_memory(trainer)
    for group in trainer.optimizer.param_groups:
        group["fused"] = True


#: the batches of one data set, fold and number of cases: all arms draw the same ones, so they are augmented once
batches: dict[tuple[Any, ...], dict[str, Any]] = {}
batches_of: list[Any] = []


class Kept:
    """A loader whose batches are kept for the next arm, by epoch and place in it."""

    def __init__(self, loader: Any, trainer: NamedTrainer, role: int) -> None:
        self.loader, self.trainer, self.role = loader, trainer, role
        self.epoch, self.place = -1, 0
        setting = [trainer.plans_manager.dataset_name, trainer.fold, trainer.settings.cases]
        if batches_of != setting:
            batches.clear()
            batches_of[:] = setting

    def __iter__(self) -> Kept:
        return self

    def __next__(self) -> dict[str, Any]:
        # before the first epoch, batches are drawn to fit output layers
        epoch = self.trainer.current_epoch if getattr(self.trainer, "started", False) else -1
        self.place = self.place + 1 if epoch == self.epoch else 0
        self.epoch = epoch
        key = (self.role, epoch, self.place)
        if key not in batches:
            batches[key] = next(self.loader)
        return dict(batches[key])


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
