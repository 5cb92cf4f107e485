"""Pre-training by masked autoencoding."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_transfer.pretraining.self_supervised.masking import MASK_RATIO, block_size, hide, random_block_mask
from nnunet_transfer.pretraining.self_supervised.restoration import RestorationTask, Score


class MaskedAutoencodingTask(RestorationTask):
    """Hide three quarters of each patch, in blocks, and restore it; the loss counts hidden voxels only.

    `masking` holds mask ratio and block size with their sources.
    """

    progress = ("explained variance of hidden voxels", "explained_variance")

    def distort(self, image: torch.Tensor, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the patches with their hidden blocks at 0, and the mask."""
        mask = random_block_mask(image.shape[0], image.shape[2:], generator=generator)
        mask = mask.to(image.device, non_blocking=True)
        return hide(image, mask), mask

    def numbers(self, score: Score) -> dict[str, float]:
        """Return the errors over hidden voxels."""
        error = score.restored
        return {"mse": error.mse, "mae": error.mae, "explained_variance": error.explained_variance}

    def details(self) -> dict[str, Any]:
        """Return how the patches were masked."""
        return {
            "method": "masked autoencoder",
            "mask_ratio": MASK_RATIO,
            "block_size": list(block_size(self.trainer.configuration_manager.patch_size)),
        }
