"""Fine-tunings of a small preprocessed data set in 2D, with a random source for each arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process, run_training_in_process
from nnunet_transfer.files import read_json
from nnunet_transfer.naming import ARMS
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.trainers import get_trainer_class
from tests.nnunet_data import make_folders, write_blob_dataset, write_splits
from tests.sources import save_random_source

CPU = torch.device("cpu")
SOURCES = [name for name in ARMS.values() if name]
#: the folders, the data set's name, the plans
Ready = tuple[Path, str, str]


def prepare_target(root: Path) -> Ready:
    """Preprocess a 2D data set under `root`; save a random source for each arm."""
    with pytest.MonkeyPatch.context() as patch:
        make_folders(root, patch)
        dataset = write_blob_dataset(root / "raw", 502, cases=4, shape=(32, 32, 3))
        preprocessed = extract_fingerprint_in_process(dataset)
        plans = write_transfer_plans(
            dataset, profile="demo", configurations=["2d"], patch_size=(32, 32), batch_size=2
        ).stem
        preprocess_in_process(dataset, plans, ["2d"])
        write_splits(preprocessed)
        for source in SOURCES:
            save_random_source(source, preprocessed / f"{plans}.json", "2d", labels=2)
    return root, dataset, plans


def train(dataset: str, plans: str, trainer: str, *, fold: int | str = 0, continue_training: bool = False) -> Any:
    """Train by nnU-Net's own function."""
    return run_training_in_process(
        dataset, "2d", fold, get_trainer_class(trainer), plans, device=CPU, continue_training=continue_training
    )


def build(dataset: str, plans: str, trainer: str, folders: Path, fold: int = 0) -> Any:
    """Return a trainer that hasn't started."""
    folder = folders / "preprocessed" / dataset
    content = read_json(folder / f"{plans}.json") | {"continue_training": False}
    return get_trainer_class(trainer)(content, "2d", fold, read_json(folder / "dataset.json"), CPU)


def resumed(trainer: Any) -> Any:
    """Load the latest checkpoint if there is one."""
    checkpoint = Path(trainer.output_folder) / "checkpoint_latest.pth"
    if checkpoint.exists():
        trainer.load_checkpoint(str(checkpoint))
    return trainer


def run_until(trainer: Any, epoch: int) -> Any:
    """Train, save a checkpoint after each epoch, and stop as a kill would once `epoch` epochs are done."""
    trainer.save_every = 1
    end = trainer.on_epoch_end

    def stop_when_done() -> None:
        end()
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt

    trainer.on_epoch_end = stop_when_done
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    (Path(trainer.output_folder) / "checkpoint_best.pth").unlink(missing_ok=True)
    return trainer
