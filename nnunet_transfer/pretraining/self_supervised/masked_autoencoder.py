"""Pre-training by masked autoencoding."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_transfer.pretraining.self_supervised.masking import MASK_RATIO, block_size, hide, random_block_mask
from nnunet_transfer.pretraining.self_supervised.restoration import RestorationPretrainer, Score


class MaskedAutoencoderPretrainer(RestorationPretrainer):
    """Hide three quarters of each patch, in blocks, and restore it; the loss counts hidden voxels only.

    Mask ratio and block size, with their sources, stand in `nnunet_transfer.pretraining.self_supervised.masking`.
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

    def source_details(self) -> dict[str, Any]:
        """Add how the patches were masked."""
        return {
            "method": "masked autoencoder",
            "mask_ratio": MASK_RATIO,
            "block_size": list(block_size(self.configuration_manager.patch_size)),
        }
