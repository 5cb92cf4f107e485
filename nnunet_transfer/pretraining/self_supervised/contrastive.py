"""Contrastive pre-training by SimCLR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nnunet_transfer.errors import PlansError
from nnunet_transfer.pretraining.networks import PROJECTION_SIZE, contrastive_network
from nnunet_transfer.pretraining.self_supervised import views
from nnunet_transfer.pretraining.self_supervised.contrastive_scores import (
    case_scores,
    contrastive_scores,
    partners,
    retrieved,
)
from nnunet_transfer.pretraining.self_supervised.losses import TEMPERATURE, NTXentLoss
from nnunet_transfer.pretraining.self_supervised.trainer import SelfSupervisedPretrainer


class SimCLRPretrainer(SelfSupervisedPretrainer):
    """Train the encoder to recognise two views of a patch among the views of the batch's other patches.

    Chen et al., ICML 2020 (arXiv:2002.05709). `views`, `losses` and `pretraining.networks` hold views, loss and
    projection with their settings. A batch of N patches gives the network 2 N views.
    In distributed training each process compares the views of its own batch.
    """

    name_suffix = "simclr"
    source_parts = "encoder"

    def task_network(self, unet: nn.Module) -> nn.Module:
        """Return encoder, pooling and projection."""
        return contrastive_network(unet)

    def _build_loss(self) -> nn.Module:
        return NTXentLoss()

    def check_before_training(self) -> None:
        """Refuse, in addition, batches without anything to compare with."""
        super().check_before_training()
        if self.batch_size < 2:
            raise PlansError(
                f"{self.settings.base} tells the patches of a batch apart, and a batch of {self.configuration_name} has "
                f"1 (in each process); plan with a batch size of 2 or more, for instance with nnunet_transfer plan "
                f"--batch-size 2"
            )

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take nnU-Net's training step with two views of each patch as input and each view's partner as target."""
        image = batch["data"].to(self.device, non_blocking=True)
        return super().train_step({"data": views.two_views(image), "target": partners(len(image), device=self.device)})

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the loss of a batch, and which of its views found their partners."""
        image = batch["data"].to(self.device, non_blocking=True)
        with self.precision():
            projections = self.network(views.two_views(image, self.validation_generator)).float()
        found = retrieved(projections)
        return {
            "loss": float(self.loss(projections, partners(len(image), device=self.device))),
            "found": int(found.sum()),
            "views": len(found),
        }

    def epoch_score(self, outputs: Sequence[dict[str, Any]]) -> tuple[str, float, list[float]]:
        """Return the share of views whose nearest neighbour in the batch is their partner."""
        share = sum(output["found"] for output in outputs) / sum(output["views"] for output in outputs)
        return "top-1 retrieval of partners in the batch", share, [share]

    def score_case(self, network: nn.Module, case: str) -> torch.Tensor:
        """Return the projections of two views of a case's central patch, `(2, projection)`, on the CPU."""
        return network(views.two_views(self.central_patch(case), self.case_generator(case))).float().cpu()

    def summarise(self, cases: Sequence[str], results: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Return how well the cases are told apart, all among all."""
        projections = torch.stack(list(results), dim=1).flatten(0, 1)
        each = case_scores(projections)
        return {
            "task": "self_supervised",
            **self.source_details(),
            **contrastive_scores(projections),
            "n_cases": len(cases),
            "cases": [{"case": case, **scores} for case, scores in zip(cases, each, strict=True)],
        }

    def source_details(self) -> dict[str, Any]:
        """Add how the views were made and compared."""
        return {
            "method": "simclr",
            "temperature": TEMPERATURE,
            "projection_size": PROJECTION_SIZE,
            "crop_share": list(views.CROP_SHARE),
            "gamma": list(views.GAMMA),
            "contrast": views.CONTRAST,
            "brightness": views.BRIGHTNESS,
            "batch_size": self.batch_size,
        }
