"""Pre-training by Models Genesis."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_transfer.pretraining.self_supervised import distortions
from nnunet_transfer.pretraining.self_supervised.restoration import RestorationTask, Score


class ModelsGenesisTask(RestorationTask):
    """Shuffle, recolour and paint each patch, and restore all of it.

    `distortions` holds the distortions with their sources; the loss is the mean squared error over the whole patch, as in
    Zhou et al. 2021.
    """

    method = "genesis"
    progress = ("explained variance of the patches", "explained_variance")

    def distort(self, image: torch.Tensor, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the patches distorted; every voxel is trained and scored."""
        whole = torch.ones_like(image[:, :1], dtype=torch.bool)
        return distortions.distort(image, generator), whole

    def numbers(self, score: Score) -> dict[str, float]:
        """Return the errors after restoration and, as if nothing had been done, before.

        `error_removed` is 1 where the patch is restored, 0 where it is no better than before, negative where worse;
        0 also if nothing was distorted, which then neither helps nor harms. Noise is so far from the patch that already
        its mean intensity removes most of the error: a network has learnt something once the explained variance is
        above 0.
        """
        restored, distorted = score.restored, score.distorted
        return {
            "mse": restored.mse,
            "mae": restored.mae,
            "explained_variance": restored.explained_variance,
            "mse_distorted": distorted.mse,
            "mae_distorted": distorted.mae,
            "error_removed": 1 - restored.mse / distorted.mse if distorted.squared_error else 0.0,
        }

    def details(self) -> dict[str, Any]:
        """Return how often the patches were distorted in which way."""
        return {
            "method": "models genesis",
            "probability_shuffling": distortions.SHUFFLING,
            "probability_nonlinear": distortions.NONLINEAR,
            "probability_painting": distortions.PAINTING,
            "probability_outpainting": distortions.OUTPAINTING,
        }
