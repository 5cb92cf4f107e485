"""Pre-training without labels: masked autoencoding."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from torch import nn

from nnunet_transfer.pretraining.figures import Reconstruction, draw_reconstructions
from nnunet_transfer.pretraining.losses import MaskedMSELoss, ReconstructionError
from nnunet_transfer.pretraining.masking import MASK_RATIO, block_size, hide, random_block_mask
from nnunet_transfer.pretraining.networks import reconstruction_network
from nnunet_transfer.pretraining.task_trainer import TaskPretrainer
from nnunet_transfer.pretraining.tiles import centre_crop

PICTURE_FILE = "reconstruction.png"
PICTURED_CASES = 4
#: the masks of all validation epochs are the same, so that epochs can be compared
VALIDATION_MASK_SEED = 20220618


class SelfSupervisedPretrainer(TaskPretrainer):
    """Hide three quarters of each patch, in blocks, and train the whole U-Net to restore it.

    Mask ratio and block size, with their sources, stand in `nnunet_transfer.pretraining.masking`. The loss is the mean
    squared error over hidden voxels, in the intensities that nnU-Net's normalisation gives (z-scores by default). The
    augmentation is spatial only, rotation, scaling and mirroring as in nnU-Net: noise or another contrast in the target
    would have to be reproduced.
    """

    def task_network(self, unet: nn.Module) -> nn.Module:
        """Return the U-Net with one output per input channel."""
        return reconstruction_network(unet)

    def _build_loss(self) -> nn.Module:
        return MaskedMSELoss()

    @staticmethod
    def get_training_transforms(*args: Any, **kwargs: Any) -> BasicTransform:
        """Return nnU-Net's training transforms without those of intensity."""
        return spatial_only(TaskPretrainer.get_training_transforms(*args, **kwargs))

    def _masked(self, image: torch.Tensor, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the image with its hidden blocks at 0, and the mask, both on the image's device."""
        mask = random_block_mask(image.shape[0], image.shape[2:], generator=generator)
        mask = mask.to(image.device, non_blocking=True)
        return hide(image, mask), mask

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take nnU-Net's training step with the masked patch as input and the whole one as target."""
        image = batch["data"].to(self.device, non_blocking=True)
        # torch's global generator, which `_seed<K>` seeds at every epoch
        masked, mask = self._masked(image, None)
        return super().train_step({"data": masked, "target": [image, mask]})

    def on_validation_epoch_start(self) -> None:
        """Start the same sequence of masks in each epoch."""
        super().on_validation_epoch_start()
        self._mask_generator = torch.Generator().manual_seed(VALIDATION_MASK_SEED + self.local_rank)

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the loss and the error of a batch of patches."""
        image = batch["data"].to(self.device, non_blocking=True)
        masked, mask = self._masked(image, self._mask_generator)
        with self.precision():
            output = self.network(masked)
        return {
            "loss": float(self.loss(output, [image, mask])),
            "error": ReconstructionError.measure(output, image, mask),
        }

    def epoch_score(self, outputs: Sequence[dict[str, Any]]) -> tuple[str, float, list[float]]:
        """Return the share of the hidden voxels' variance that is explained."""
        explained = ReconstructionError.sum(output["error"] for output in outputs).explained_variance
        return "explained variance of hidden voxels", explained, [explained]

    def _restore(self, network: nn.Module, case: str) -> _Restored:
        """Restore a case's central patch; its mask depends on the case's name only."""
        image = centre_crop(self.case_image(case), self.configuration_manager.patch_size)[None].to(self.device)
        masked, mask = self._masked(image, torch.Generator().manual_seed(zlib.crc32(case.encode())))
        # what the network makes of visible blocks is arbitrary: the loss never saw it
        return _Restored(image, masked, mask, torch.where(mask, network(masked).to(image.dtype), image))

    def score_case(self, network: nn.Module, case: str) -> ReconstructionError:
        """Return the error over the hidden voxels of a case's central patch."""
        restored = self._restore(network, case)
        return ReconstructionError.measure(restored.output, restored.image, restored.mask)

    def summarise(self, cases: Sequence[str], results: Sequence[ReconstructionError]) -> dict[str, Any]:
        """Return the errors over all hidden voxels, and each case's."""
        return {
            "task": "self_supervised",
            **self.source_details(),
            **_numbers(ReconstructionError.sum(results)),
            "n_cases": len(cases),
            "cases": [{"case": case, **_numbers(error)} for case, error in zip(cases, results, strict=True)],
        }

    def draw(self, network: nn.Module, cases: Iterable[str], folder: Path) -> None:
        """Draw input, masked input and reconstruction of the first few cases."""
        pictures = []
        for case in islice(cases, PICTURED_CASES):
            restored = self._restore(network, case)
            image, masked, output = (
                patch[0].float().cpu().numpy() for patch in (restored.image, restored.masked, restored.output)
            )
            pictures.append(Reconstruction(case, image, masked, output))
        draw_reconstructions(folder / PICTURE_FILE, pictures)

    def source_details(self) -> dict[str, Any]:
        """Add how the patches were masked."""
        return {
            "method": "masked autoencoder",
            "mask_ratio": MASK_RATIO,
            "block_size": list(block_size(self.configuration_manager.patch_size)),
        }


@dataclass(frozen=True)
class _Restored:
    """Tensors `(1, channel, *patch)`; the mask has one channel."""

    image: torch.Tensor
    masked: torch.Tensor
    mask: torch.Tensor
    output: torch.Tensor


def _numbers(error: ReconstructionError) -> dict[str, float]:
    return {"mse": error.mse, "mae": error.mae, "explained_variance": error.explained_variance}


def spatial_only(transforms: ComposeTransforms) -> ComposeTransforms:
    """Drop the transforms of intensity: nnU-Net applies exactly these, one by one, with a probability."""
    return ComposeTransforms([t for t in transforms.transforms if not isinstance(t, RandomTransform)])
