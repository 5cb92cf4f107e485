"""The untrained twin of a segmentation source: the score of fitted output layers on random features."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_transfer._nnunet import unwrapped
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_json
from nnunet_transfer.finetuning.fitted_start import HEADS_FILE, fit_output_layers
from nnunet_transfer.sources.learning import Learning, segmentation_learning
from nnunet_transfer.training.base import NamedTrainer

#: number of last epochs over which the pseudo Dice is averaged
LAST_EPOCHS = 5


def fit_twin(trainer: NamedTrainer) -> None:
    """Fit the output layers of a copy of the trainer's network and keep its pseudo Dice in the output folder."""
    trainer.print_to_log_file("What fitted output layers reach on this network before any training:")
    kept = trainer.network
    trainer.network = deepcopy(unwrapped(kept))
    try:
        fit_output_layers(trainer)
    finally:
        trainer.network = kept


def learning_beside_twin(trainer: NamedTrainer) -> Learning | None:
    """Compare the pseudo Dice of the last epochs with that of the twin; None without a twin or any pseudo Dice.

    None, too, if the twin is too good to be told from a trained network.
    """
    logger: Any = trainer.logger
    # NaN for an epoch whose validation patches have no foreground, neither predicted nor labelled
    epochs = [dice for dice in logger.get_value("mean_fg_dice", None)[-LAST_EPOCHS:] if np.isfinite(dice)]
    try:
        untrained = read_json(Path(trainer.output_folder) / HEADS_FILE)["mean_dice"]
    except DataError:
        return None
    if untrained is None or not epochs:
        return None
    return segmentation_learning(float(np.mean(epochs)), float(untrained))
