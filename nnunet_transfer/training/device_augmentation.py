"""Augmentation on the training device: workers only cut patches, the device rotates, scales and recolours them.

nnU-Net augments in worker processes, and a fast GPU waits for them. With `nnUNet_augment_on_device=1` the same
transforms, with the same probabilities, run on the device, for training and validation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.training.device_transforms import DrawnOnCPU, Sample, UnsupportedTransformError, steps_on_device

VARIABLE = "nnUNet_augment_on_device"
#: runs it on a CPU, too, where it saves nothing: for tests
FORCE = "force"
_OFF, _ON = ("", "0", "f", "false"), ("1", "t", "true", FORCE)


def augments_on_device(device: torch.device, say: Callable[[str], object] = print) -> bool:
    """Return whether to augment on the device, as the environment variable says.

    Parameters
    ----------
    say : told in one line if the setting is ignored

    Raises
    ------
    SettingsError
        If the variable is neither on, off nor `force`.
    """
    value = os.environ.get(VARIABLE, "").strip().lower()
    if value not in (*_OFF, *_ON):
        raise SettingsError(f"{VARIABLE} is {value}; set it to 1, 0 or, to run it on a CPU for tests, {FORCE}")
    if value in _OFF:
        return False
    if device.type == "cpu" and value != FORCE:
        say(f"{VARIABLE}={value} is ignored: on a CPU, workers augment in parallel and the trainer would not")
        return False
    return True


class DeviceAugmentation:
    """nnU-Net's transforms for whole batches on a device.

    Parameters
    ----------
    transform : as `get_training_transforms` or `get_validation_transforms` return it

    Raises
    ------
    UnsupportedTransformError
        If a part of it can't run on a device.
    """

    def __init__(self, transform: BasicTransform) -> None:
        self._steps = steps_on_device(transform)

    @torch.no_grad()
    def __call__(
        self, images: torch.Tensor, segmentations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | list[torch.Tensor]]:
        """Augment a batch, each sample in its own way. The tensors given may be written to.

        Parameters
        ----------
        images : `(batch, channel, *initial patch)`, float32
        segmentations : `(batch, channel, *initial patch)`, int16, on the same device

        Returns
        -------
        tuple
            Images `(batch, channel, *patch)` and targets, one tensor or one for each output of deep supervision.
        """
        samples = [{"image": i, "segmentation": s} for i, s in zip(images, segmentations, strict=True)]
        for step in self._steps:
            if isinstance(step, DrawnOnCPU) and isinstance(step.transform, DownsampleSegForDSTransform):
                samples = _downsampled(step.transform, samples)
            else:
                samples = [step(**sample) for sample in samples]
        return torch.stack([sample["image"] for sample in samples]), _stacked(
            [sample["segmentation"] for sample in samples]
        )


def _downsampled(transform: BasicTransform, samples: Sequence[Sample]) -> list[Sample]:
    """Downsample all targets together, as channels of one: it draws nothing, and a launch per size is enough."""
    targets = torch.stack([sample["segmentation"] for sample in samples])
    sizes = transform(segmentation=targets.flatten(0, 1))["segmentation"]
    unfolded = [size.unflatten(0, targets.shape[:2]) for size in sizes]
    return [{**sample, "segmentation": [size[i] for size in unfolded]} for i, sample in enumerate(samples)]


def _stacked(targets: Sequence[Any]) -> torch.Tensor | list[torch.Tensor]:
    if isinstance(targets[0], list):
        return [torch.stack(size) for size in zip(*targets, strict=True)]
    return torch.stack(list(targets))


class AugmentedBatches:
    """nnU-Net's loader, whose batches are moved to the device and augmented there.

    Attributes
    ----------
    loader : nnU-Net's own; all other attributes are its
    """

    def __init__(self, loader: Any, augmentation: DeviceAugmentation, device: torch.device) -> None:
        self.loader = loader
        self._augmentation = augmentation
        self._device = device

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        batch = next(self.loader)
        images, targets = (batch[key].to(self._device, non_blocking=True) for key in ("data", "target"))
        images, targets = self._augmentation(images, targets)
        return {**batch, "data": images, "target": targets}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def loaders_with_device_augmentation(trainer: Any, make_loaders: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Make nnU-Net's loaders without transforms and run these on the trainer's device.

    What a trainer's own `get_training_transforms` and `get_validation_transforms` return is what runs. Transforms that
    can't run on a device stay in the workers, and the log says so.

    Parameters
    ----------
    trainer : an nnU-Net trainer
    make_loaders : its `get_dataloaders`, as nnU-Net defines it

    Returns
    -------
    tuple
        The loaders for training and for validation.
    """
    names = ("get_training_transforms", "get_validation_transforms")
    kept: dict[str, DeviceAugmentation] = {}

    def instead(name: str) -> Callable[..., BasicTransform | None]:
        make = getattr(trainer, name)

        def keep(*args: Any, **kwargs: Any) -> BasicTransform | None:
            transform = make(*args, **kwargs)
            try:
                kept[name] = DeviceAugmentation(transform)
            except UnsupportedTransformError as error:
                trainer.print_to_log_file(f"Augmentation stays in the workers: {error} can't run on a device.")
                return transform
            return None

        return keep

    for name in names:
        setattr(trainer, name, instead(name))
    try:
        loaders = make_loaders()
    finally:
        for name in names:
            delattr(trainer, name)
    first, second = (
        AugmentedBatches(loader, kept[name], trainer.device) if name in kept else loader
        for name, loader in zip(names, loaders, strict=True)
    )
    return first, second


def nnunets_own(loader: Any) -> Any:
    """Return nnU-Net's loader, which it recognises by its class to end its workers."""
    return loader.loader if isinstance(loader, AugmentedBatches) else loader
