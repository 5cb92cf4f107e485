"""Pre-training without labels: what its methods share."""

from __future__ import annotations

import zlib
from typing import Any, ClassVar

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from nnunet_transfer.pretraining.source_name import METHOD_KEY
from nnunet_transfer.pretraining.task_trainer import TaskPretrainer
from nnunet_transfer.pretraining.tiles import centre_crop
from nnunet_transfer.sources import SourceCard

#: what validation draws is the same in all epochs, so that epochs can be compared
VALIDATION_SEED = 20220618


class SelfSupervisedPretrainer(TaskPretrainer):
    """Learn from images alone.

    The augmentation is spatial only, rotation, scaling and mirroring as in nnU-Net: a method that restores would have
    to reproduce noise or another contrast in its target, and a method that compares views changes intensities itself.
    What a method draws at random follows `_seed<K>` in training, and in validation the epoch's step or the case.
    """

    #: follows the task in the source's name; nothing for the default method, whose source the arms look for
    name_suffix: ClassVar[str] = ""
    dataset_json: Any  # nnU-Net's, which has no type there

    def apply_settings(self) -> None:
        """Name the method, too, where the source's name is made."""
        super().apply_settings()
        if self.name_suffix:
            self.dataset_json = {**self.dataset_json, METHOD_KEY: self.name_suffix}

    @staticmethod
    def _origin(card: SourceCard) -> tuple[Any, ...]:
        # one method's source must not silently take the place of another's
        return *TaskPretrainer._origin(card), card.extra.get("method")

    @staticmethod
    def get_training_transforms(*args: Any, **kwargs: Any) -> BasicTransform:
        """Return nnU-Net's training transforms without those of intensity."""
        return spatial_only(TaskPretrainer.get_training_transforms(*args, **kwargs))

    def on_validation_epoch_start(self) -> None:
        """Start the same sequence of random numbers in each epoch."""
        super().on_validation_epoch_start()
        self.validation_generator = torch.Generator().manual_seed(VALIDATION_SEED + self.local_rank)

    @staticmethod
    def case_generator(case: str) -> torch.Generator:
        """Return random numbers that depend on the case's name only."""
        return torch.Generator().manual_seed(zlib.crc32(case.encode()))

    def central_patch(self, case: str) -> torch.Tensor:
        """Return a preprocessed case's central patch, `(1, channel, *patch)`, on the trainer's device."""
        return centre_crop(self.case_image(case), self.configuration_manager.patch_size)[None].to(self.device)


def spatial_only(transforms: ComposeTransforms) -> ComposeTransforms:
    """Drop the transforms of intensity: nnU-Net applies exactly these, one by one, with a probability."""
    return ComposeTransforms([t for t in transforms.transforms if not isinstance(t, RandomTransform)])
