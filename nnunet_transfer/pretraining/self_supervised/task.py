"""Pre-training without labels: the common base of all methods."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from nnunet_transfer.pretraining.task import PretrainingTask
from nnunet_transfer.pretraining.tiles import centre_crop

if TYPE_CHECKING:
    from nnunet_transfer.pretraining.task_trainer import TaskPretrainer

#: seed of validation, the same in all epochs so that they can be compared
VALIDATION_SEED = 20220618


class SelfSupervisedTask(PretrainingTask):
    """Learn from images alone.

    Augmentation is only spatial (rotation, scaling and mirroring as in nnU-Net): a method that restores images would have to
    reproduce noise or a changed contrast, and a method that compares views changes intensities itself. Random numbers depend
    on `_seed<K>` in training, and on the step of the epoch or the case in validation.
    """

    def __init__(self, trainer: TaskPretrainer) -> None:
        super().__init__(trainer)
        self.on_validation_epoch_start()

    def training_transforms(self, transforms: ComposeTransforms) -> ComposeTransforms:
        """Return nnU-Net's training transforms without intensity transforms."""
        return spatial_only(transforms)

    def on_validation_epoch_start(self) -> None:
        """Start the same sequence of random numbers in each epoch."""
        self.validation_generator = torch.Generator().manual_seed(VALIDATION_SEED + self.trainer.local_rank)

    @staticmethod
    def case_generator(case: str) -> torch.Generator:
        """Return a random generator that only depends on the case's name."""
        return torch.Generator().manual_seed(zlib.crc32(case.encode()))

    def central_patch(self, case: str) -> torch.Tensor:
        """Return a preprocessed case's central patch, `(1, channel, *patch)`, on the trainer's device."""
        patch_size = self.trainer.configuration_manager.patch_size
        return self.to_device(centre_crop(self.trainer.case_image(case), patch_size)[None])


def spatial_only(transforms: ComposeTransforms) -> ComposeTransforms:
    """Remove the intensity transforms, which are exactly those that nnU-Net applies with a probability."""
    return ComposeTransforms([t for t in transforms.transforms if not isinstance(t, RandomTransform)])
