"""Seeds for initialisation, sampling and augmentation."""

from __future__ import annotations

import random

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform


def seed_everything(seed: int, stream: int = 0, rank: int = 0) -> None:
    """Seed Python, NumPy and torch, on all devices.

    Parameters
    ----------
    seed : the run's seed
    stream : index of the independent stream; one for initialisation, one per epoch. Global generators are seeded because
        nnU-Net's data loader and augmentation use them
    rank : process of a distributed training, so that each draws different batches; 0 if all must draw the same
    """
    state = int(np.random.SeedSequence([seed, stream, rank]).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)


def blur_without_timing(transform: BasicTransform | None) -> None:
    """Make every blur in `transform` use convolution.

    nnU-Net's blur uses the Fourier transform if it was faster on the first try. The two differ in the last digits, so the load
    of the machine would change the trained weights. For nnU-Net's widths, convolution is faster.
    """
    if isinstance(transform, ComposeTransforms):
        for part in transform.transforms:
            blur_without_timing(part)
    elif isinstance(transform, RandomTransform):
        blur_without_timing(transform.transform)
    elif isinstance(transform, GaussianBlurTransform):
        transform.benchmark = False
