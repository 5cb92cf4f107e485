"""Data sets' traits for tests of augmentation: nnU-Net's own transforms for them, and patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

#: nnU-Net's own angles: 180 degrees in 2D, 30 in 3D (configure_rotation_dummyDA_mirroring_and_inital_patch_size)
ANGLES = {2: (-np.pi, np.pi), 3: (-np.pi / 6, np.pi / 6)}


@dataclass(frozen=True)
class Case:
    """A data set's traits that change nnU-Net's transforms."""

    patch: tuple[int, ...]
    labels: int = 2
    dummy_2d: bool = False
    regions: tuple[tuple[int, ...], ...] | None = None
    masked: bool = False

    @property
    def initial(self) -> tuple[int, ...]:
        """nnU-Net's enlarged patch."""
        spatial = self.patch[1:] if self.dummy_2d else self.patch
        angles = ANGLES[len(spatial)]
        return (
            *self.patch[: len(self.patch) - len(spatial)],
            *map(int, get_patch_size(spatial, angles, angles, angles, (0.85, 1.25))),
        )

    def stock(self) -> ComposeTransforms:
        """nnU-Net's own transforms."""
        axes = len(self.patch)
        return nnUNetTrainer.get_training_transforms(
            self.patch,
            ANGLES[2 if self.dummy_2d else axes],
            [[1.0] * axes, [0.5] * axes, [0.25] * axes],
            tuple(range(axes)),
            self.dummy_2d,
            use_mask_for_norm=[self.masked, False],
            foreground_labels=list(range(1, self.labels)),
            regions=self.regions,
        )

    def sample(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A patch with two channels, and labels in blocks; -1 beyond the image, as nnU-Net pads."""
        rng = np.random.default_rng(seed)
        image = torch.from_numpy(rng.normal(size=(2, *self.initial)).astype(np.float32))
        size = int(rng.integers(1, 5))
        blocks = rng.integers(-1, self.labels, size=[-(-n // size) for n in self.initial])
        labels = np.kron(blocks, np.ones([size] * len(self.patch)))[tuple(slice(n) for n in self.initial)]
        return image, torch.from_numpy(labels[None].astype(np.int16))


CASES = {
    "2d": Case((24, 20)),
    "2d, five labels": Case((24, 20), labels=5),
    "3d": Case((12, 16, 14), labels=3),
    "3d, masked background": Case((12, 16, 14), masked=True),
    "thick slices": Case((6, 20, 18), labels=3, dummy_2d=True),
    "regions": Case((12, 16, 14), labels=4, regions=((1, 2, 3), (2,))),
}


def seed_draws(seed: int) -> None:
    """Seed what transforms draw from."""
    np.random.seed(seed)
    torch.manual_seed(seed)
