"""Pre-training by Models Genesis."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_transfer.pretraining.self_supervised import distortions
from nnunet_transfer.pretraining.self_supervised.restoration import RestorationTask, Score


class ModelsGenesisTask(RestorationTask):
    """Shuffle, recolour and paint each patch, and restore all of it.

    `distortions` defines the distortions with their sources; the loss is the mean squared error over the whole patch, as in
    Zhou et al. 2021.
    """

    method = "genesis"
    progress = ("explained variance of the patches", "explained_variance")

    def distort(self, image: torch.Tensor, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return distorted patches; every voxel is trained and scored."""
        whole = torch.ones_like(image[:, :1], dtype=torch.bool)
        return distortions.distort(image, generator), whole

    def numbers(self, score: Score) -> dict[str, float]:
        """Return the errors after restoration, and before it for comparison.

        `error_removed` is 1 if the patch is restored, 0 if it is no better than before or nothing was distorted, and negative
        if it is worse. The noise differs so much from the patch that predicting its mean intensity already removes most of
        the error; a network has only learnt something if the explained variance is above 0.
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
        """Return the probability of each distortion."""
        return {
            "method": "models genesis",
            "probability_shuffling": distortions.SHUFFLING,
            "probability_nonlinear": distortions.NONLINEAR,
            "probability_painting": distortions.PAINTING,
            "probability_outpainting": distortions.OUTPAINTING,
        }
