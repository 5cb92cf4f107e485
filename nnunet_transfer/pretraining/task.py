"""Pre-training tasks without segmentation: network, loss, batches and scores, separate from nnU-Net's trainer."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from torch import nn

from nnunet_transfer.pretraining.tiles import tiles

if TYPE_CHECKING:
    from nnunet_transfer.pretraining.task_trainer import TaskPretrainer


class PretrainingTask(ABC):
    """A pre-training task without segmentation.

    The trainer handles data loading, schedule, checkpoints and processes; the task defines the computation.

    Parameters
    ----------
    trainer : the trainer that runs the task

    Attributes
    ----------
    source_parts : parts of the network that the task trains
    method : suffix of the source's name; empty for the default method, whose source the arms use
    """

    source_parts: ClassVar[str] = "encoder+decoder"
    method: ClassVar[str] = ""

    def __init__(self, trainer: TaskPretrainer) -> None:
        self.trainer = trainer

    @abstractmethod
    def network(self, unet: nn.Module) -> nn.Module:
        """Make the task's network from the U-Net of the plans, which has as many outputs as inputs."""

    @abstractmethod
    def loss(self) -> nn.Module:
        """Return the loss function of the network's outputs and the target from `training_batch`."""

    @abstractmethod
    def training_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a batch from nnU-Net to the network's input `data` and the loss's `target`."""

    @abstractmethod
    def validate_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `loss` of a batch of patches and what `epoch_score` needs."""

    @abstractmethod
    def epoch_score(self, outputs: Sequence[dict[str, Any]]) -> tuple[str, float, list[float]]:
        """Return the name of the score, its value over the validation batches (higher is better) and its parts."""

    @abstractmethod
    def score_case(self, network: nn.Module, case: str) -> Any:
        """Return the input of `summarise` for one case; the network is in evaluation mode."""

    @abstractmethod
    def summarise(self, cases: Sequence[str], results: Sequence[Any]) -> dict[str, Any]:
        """Return the content of `summary.json`."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """Return the task's entries in the source's card."""

    def training_transforms(self, transforms: ComposeTransforms) -> ComposeTransforms:
        """Choose among nnU-Net's training transforms; all of them by default."""
        return transforms

    def sampled(self, cases: list[str]) -> list[str]:
        """Return the training cases, with repeats for balanced sampling."""
        return cases

    def check_before_training(self) -> None:  # noqa: B027 # a hook
        """Raise a `TransferError` for anything that would invalidate the training."""

    def on_validation_epoch_start(self) -> None:  # noqa: B027 # a hook
        """Prepare the validation of an epoch, for example its random numbers."""

    def record(self) -> dict[str, Any]:
        """Return the task's entries in nnU-Net's plans, which are stored with the model and in its checkpoints."""
        return {}

    def check_same(self, plans: Mapping[str, Any], *, same_fold: bool) -> None:  # noqa: B027 # a hook
        """Raise a `TransferError` if a training with these plans can't be continued with this task.

        Parameters
        ----------
        plans : of the model, or of one fold's checkpoint
        same_fold : whether `plans` come from this very fold
        """

    def draw(self, network: nn.Module, cases: Iterable[str], folder: Path) -> None:  # noqa: B027 # a hook
        """Write pictures of some cases to `folder`."""

    def covering_patches(self, case: str) -> Iterator[torch.Tensor]:
        """Yield a case's covering patches in batches, `(batch, channel, *patch)`, on the trainer's device."""
        patches = tiles(self.trainer.case_image(case), self.trainer.configuration_manager.patch_size)
        while batch := list(itertools.islice(patches, self.trainer.batch_size)):
            yield self.to_device(torch.stack(batch))

    def to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor on the trainer's device."""
        return tensor.to(self.trainer.device, non_blocking=True)
