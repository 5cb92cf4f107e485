"""Whole batches in one process of a distributed training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nnunet_transfer.training.base import NamedTrainer
from nnunet_transfer.training.device_augmentation import nnunets_own

_REPLACED = ("batch_size", "oversample_foreground_percent", "dataloader_train", "dataloader_val")


@contextmanager
def whole_batches(trainer: NamedTrainer) -> Iterator[int]:
    """Let a process of a distributed training draw batches like those of a training in one process.

    nnU-Net deals out a batch: the patches around foreground go to the last processes, and the first one gets hardly any. Its
    loaders are replaced by others until the end of the context. Without distributed training, nothing changes.

    Yields
    ------
    at_once : number of patches of a batch that fit into memory with the network, as this process trains on so many
    """
    if not trainer.is_ddp:
        yield trainer.batch_size
        return
    kept = {name: getattr(trainer, name) for name in _REPLACED}
    at_once = trainer.batch_size
    trainer.batch_size = trainer.configuration_manager.batch_size
    trainer.oversample_foreground_percent = trainer.whole_oversampling
    loaders: tuple[Any, ...] = ()
    try:
        trainer.dataloader_train, trainer.dataloader_val = loaders = trainer.get_dataloaders()
        yield at_once
    finally:
        for name, value in kept.items():
            setattr(trainer, name, value)
        for loader in map(nnunets_own, loaders):
            if hasattr(loader, "_finish"):  # one with worker processes
                loader._finish()


def parts_of(batch: dict[str, Any], at_once: int, network: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield a batch in parts of at most `at_once` patches; in one, if the network has BatchNorm, which joins the patches.

    Parameters
    ----------
    batch : nnU-Net's: `data` and `target`, one tensor or one per level, and maybe `keys`, all with the patches first
    """
    count = len(batch["data"])
    if count <= at_once or any(isinstance(module, _BatchNorm) for module in network.modules()):
        yield batch
        return
    for first in range(0, count, at_once):
        own = slice(first, first + at_once)
        target = batch["target"]
        part = {**batch, "data": batch["data"][own]}
        part["target"] = [level[own] for level in target] if isinstance(target, list | tuple) else target[own]
        if batch.get("keys") is not None:
            part["keys"] = batch["keys"][own]
        yield part
