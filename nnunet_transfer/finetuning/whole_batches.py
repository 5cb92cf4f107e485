"""Whole batches in one process of a distributed training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nnunet_transfer.training.base import NamedTrainer
from nnunet_transfer.training.device_augmentation import nnunets_own

_REPLACED = ("batch_size", "oversample_foreground_percent", "dataloader_train", "dataloader_val")


@contextmanager
def whole_batches(trainer: NamedTrainer) -> Iterator[None]:
    """Let a process of a distributed training draw batches like those of a training in one process.

    nnU-Net deals out a batch: the patches around foreground go to the last processes, and the first one gets hardly any. Its
    loaders are replaced by others until the end of the context. Without distributed training, nothing changes.
    """
    if not trainer.is_ddp:
        yield
        return
    kept = {name: getattr(trainer, name) for name in _REPLACED}
    trainer.batch_size = trainer.configuration_manager.batch_size
    trainer.oversample_foreground_percent = trainer.whole_oversampling
    loaders: tuple[Any, ...] = ()
    try:
        trainer.dataloader_train, trainer.dataloader_val = loaders = trainer.get_dataloaders()
        yield
    finally:
        for name, value in kept.items():
            setattr(trainer, name, value)
        for loader in map(nnunets_own, loaders):
            if hasattr(loader, "_finish"):  # one with worker processes
                loader._finish()
