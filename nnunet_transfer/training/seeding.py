"""Seeds for initialisation, sampling and augmentation."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int, stream: int = 0, rank: int = 0) -> None:
    """Seed Python, NumPy and torch, on all devices.

    Parameters
    ----------
    seed : the run's seed
    stream : which of the run's independent streams; one for initialisation, one per epoch. nnU-Net's data loader
        and augmentation draw from the global generators, which is why these and not a local one are seeded.
    rank : process of a distributed training, so that each draws its own batches; 0 where all must draw alike
    """
    state = int(np.random.SeedSequence([seed, stream, rank]).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)
