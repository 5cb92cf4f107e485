"""Augmentation on the training device: workers only cut patches, the device rotates, scales and recolours them.

nnU-Net augments in worker processes, and a fast GPU waits for them. With `nnUNet_augment_on_device=1` the same
transforms, with the same probabilities, run on the device, for training and validation.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.training.device_transforms import (
    Batch,
    Drawn,
    UnsupportedTransformError,
    stand_ins,
    steps_on_device,
)

VARIABLE = "nnUNet_augment_on_device"
#: also augments in batches on a CPU, which saves nothing there: for tests
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
        self._stand_ins = functools.cache(functools.partial(stand_ins, self._steps))

    def draw(self, images: torch.Tensor, segmentations: torch.Tensor) -> list[list[Drawn]]:
        """Draw each sample's parameters: for each step one list, with the samples' in order."""
        made = self._stand_ins(images.shape[1:], segmentations.shape[1:])
        samples = [[step.draw(m) for step, m in zip(self._steps, made, strict=True)] for _ in range(len(images))]
        return [list(drawn) for drawn in zip(*samples, strict=True)]

    @torch.no_grad()
    def __call__(
        self, images: torch.Tensor, segmentations: torch.Tensor, drawn: Sequence[Sequence[Drawn]] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | list[torch.Tensor]]:
        """Augment a batch, each sample with its own parameters. The given tensors may be overwritten.

        Parameters
        ----------
        images : `(batch, channel, *initial patch)`, float32
        segmentations : `(batch, channel, *initial patch)`, int16, on the same device
        drawn : what `draw` returned, if it was called before

        Returns
        -------
        tuple
            Images `(batch, channel, *patch)` and targets, one tensor or one for each output of deep supervision.
        """
        batch = Batch(images, segmentations)
        for step, parameters in zip(self._steps, drawn or self.draw(images, segmentations), strict=True):
            step.apply(batch, parameters)
        return batch.images, batch.segmentations


class AugmentedBatches:
    """nnU-Net's loader, whose batches are moved to the device and augmented there.

    On CUDA the next batch is augmented while the network trains on this one: in a thread, because launching many small
    operations takes the CPU time, and on a stream of its own. What is drawn on the CPU is drawn before, in the caller's
    thread, so that it follows the seed.

    Parameters
    ----------
    ahead : whether to work ahead; by default on CUDA only

    Attributes
    ----------
    loader : nnU-Net's own; all other attributes are its
    """

    def __init__(
        self, loader: Any, augmentation: DeviceAugmentation, device: torch.device, *, ahead: bool | None = None
    ) -> None:
        self.loader = loader
        self._augmentation = augmentation
        self._device = device
        on_cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_cuda else None
        self._thread = ThreadPoolExecutor(1) if (on_cuda if ahead is None else ahead) else None
        self._coming: Future[dict[str, Any]] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        if self._thread is None:
            return self._augmented(*self._cut())
        batch = (self._coming or self._thread.submit(self._augmented, *self._cut())).result()
        if self._stream is not None:  # before the next batch's work is on it
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for tensor in (batch["data"], *_each(batch["target"])):
                tensor.record_stream(current)  # its memory must not be used again before this stream is done with it
        self._coming = self._thread.submit(self._augmented, *self._cut())
        return batch

    def _cut(self) -> tuple[dict[str, Any], list[list[Drawn]]]:
        batch = next(self.loader)
        return batch, self._augmentation.draw(batch["data"], batch["target"])

    def _augmented(self, batch: dict[str, Any], drawn: list[list[Drawn]]) -> dict[str, Any]:
        with torch.cuda.stream(self._stream):  # nothing without one
            images, targets = (batch[key].to(self._device, non_blocking=True) for key in ("data", "target"))
            images, targets = self._augmentation(images, targets, drawn)
        return {**batch, "data": images, "target": targets}

    def forget(self) -> None:
        """Drop the batch that was prepared ahead: a seeded epoch starts with its own draws."""
        if self._coming is not None:
            self._coming.result()
            self._coming = None

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def _each(targets: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
    return targets if isinstance(targets, list) else [targets]


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
    """End the wrapper and return nnU-Net's loader, which nnU-Net recognises by its class to end its workers."""
    if not isinstance(loader, AugmentedBatches):
        return loader
    loader.close()
    return loader.loader


def forget_prepared(*loaders: Any) -> None:
    """Drop the batches that were prepared before the generators were seeded."""
    for loader in loaders:
        if isinstance(loader, AugmentedBatches):
            loader.forget()
