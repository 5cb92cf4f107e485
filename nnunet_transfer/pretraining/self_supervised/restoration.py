"""Pre-training by restoring distorted patches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from nnunet_transfer.pretraining.networks import reconstruction_network
from nnunet_transfer.pretraining.self_supervised.figures import Reconstruction, draw_reconstructions
from nnunet_transfer.pretraining.self_supervised.losses import MaskedMSELoss, ReconstructionError
from nnunet_transfer.pretraining.self_supervised.task import SelfSupervisedTask

PICTURE_FILE = "reconstruction.png"
PICTURED_CASES = 4


@dataclass(frozen=True)
class Score:
    """Errors of patches in the scored voxels, after restoration and before it."""

    restored: ReconstructionError
    distorted: ReconstructionError

    @classmethod
    def sum(cls, parts: Iterable[Score]) -> Score:
        """Add up the errors of several batches or cases."""
        parts = list(parts)
        return cls(
            ReconstructionError.sum(part.restored for part in parts),
            ReconstructionError.sum(part.distorted for part in parts),
        )


class RestorationTask(SelfSupervisedTask):
    """Distort each patch and train the whole U-Net to restore it.

    The loss is the mean squared error over the trained voxels, in normalised intensities (z-scores by default). A method
    defines the distortion, the reported numbers, and the number to follow during training.
    """

    #: score in nnU-Net's log and plot: its name, and its key in `numbers`; higher is better
    progress: ClassVar[tuple[str, str]]

    def distort(self, image: torch.Tensor, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return distorted patches, and a mask of the trained and scored voxels.

        Parameters
        ----------
        image : `(batch, channel, *patch)`
        generator : CPU generator; default: torch's global generators, which `_seed<K>` seeds at every epoch

        Returns
        -------
        tuple
            `(batch, channel, *patch)`, and boolean `(batch, 1, *patch)`, both on the image's device.
        """
        raise NotImplementedError

    def numbers(self, score: Score) -> Mapping[str, float]:
        """Return the numbers for `summary.json`, for one or all cases."""
        raise NotImplementedError

    def network(self, unet: nn.Module) -> nn.Module:
        """Return the U-Net with one output per input channel."""
        return reconstruction_network(unet)

    def loss(self) -> nn.Module:
        """Return the mean squared error over the trained voxels."""
        return MaskedMSELoss()

    def training_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the distorted patches as input and the patches themselves as target."""
        image = self.to_device(batch["data"])
        distorted, scored = self.distort(image, None)
        return {"data": distorted, "target": [image, scored]}

    def validate_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the loss and the errors of a batch of patches."""
        image = self.to_device(batch["data"])
        distorted, scored = self.distort(image, self.validation_generator)
        with self.trainer.precision():
            output = self.trainer.network(distorted)
        return {
            "loss": float(self.trainer.loss(output, [image, scored])),
            "score": _score(output, image, distorted, scored),
        }

    def epoch_score(self, outputs: Sequence[dict[str, Any]]) -> tuple[str, float, list[float]]:
        """Return the method's measure of progress."""
        words, key = self.progress
        value = self.numbers(Score.sum(output["score"] for output in outputs))[key]
        return words, value, [value]

    def _restore(self, network: nn.Module, case: str) -> _Restored:
        """Restore a case's central patch, with a distortion that only depends on the case's name."""
        image = self.central_patch(case)
        distorted, scored = self.distort(image, self.case_generator(case))
        # the output in other voxels is arbitrary, because the loss doesn't include them
        output = torch.where(scored, network(distorted).to(image.dtype), image)
        return _Restored(image, distorted, scored, output)

    def score_case(self, network: nn.Module, case: str) -> Score:
        """Return the errors in the patches that cover a case, with distortions that only depend on its name.

        The central patch would be uninformative, because intensities inside a brain hardly differ from their mean.
        """
        generator, parts = self.case_generator(case), []
        for image in self.covering_patches(case):
            distorted, scored = self.distort(image, generator)
            parts.append(_score(network(distorted).to(image.dtype), image, distorted, scored))
        return Score.sum(parts)

    def summarise(self, cases: Sequence[str], results: Sequence[Score]) -> dict[str, Any]:
        """Return the errors over all scored voxels, and those of each case."""
        return {
            "task": "self_supervised",
            **self.details(),
            **self.numbers(Score.sum(results)),
            "n_cases": len(cases),
            "cases": [{"case": case, **self.numbers(score)} for case, score in zip(cases, results, strict=True)],
        }

    def draw(self, network: nn.Module, cases: Iterable[str], folder: Path) -> None:
        """Draw the first few cases: original, distorted and restored."""
        pictures = []
        for case in islice(cases, PICTURED_CASES):
            restored = self._restore(network, case)
            image, distorted, output = (
                patch[0].float().cpu().numpy() for patch in (restored.image, restored.distorted, restored.output)
            )
            pictures.append(Reconstruction(case, image, distorted, output))
        draw_reconstructions(folder / PICTURE_FILE, pictures)


@dataclass(frozen=True)
class _Restored:
    """Tensors `(1, channel, *patch)`; `scored` has one channel."""

    image: torch.Tensor
    distorted: torch.Tensor
    scored: torch.Tensor
    output: torch.Tensor


def _score(output: torch.Tensor, image: torch.Tensor, distorted: torch.Tensor, scored: torch.Tensor) -> Score:
    return Score(
        ReconstructionError.measure(output, image, scored), ReconstructionError.measure(distorted, image, scored)
    )
