"""Contrastive pre-training by SimCLR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
from nnunet_transfer.pretraining.self_supervised.task import SelfSupervisedTask
from nnunet_transfer.pretraining.source_name import is_rgb

if TYPE_CHECKING:
    from nnunet_transfer.pretraining.task_trainer import TaskPretrainer


class SimCLRTask(SelfSupervisedTask):
    """Train the encoder to recognise two views of a patch among the views of the batch's other patches.

    Chen et al., ICML 2020 (arXiv:2002.05709). `views`, `losses` and `pretraining.networks` define views, loss and
    projection with their settings. The network gets 2 N views of a batch of N patches. In distributed training, each process
    compares the views of its own batch.
    """

    method = "simclr"
    source_parts = "encoder"

    def __init__(self, trainer: TaskPretrainer) -> None:
        super().__init__(trainer)
        self.rgb = is_rgb(trainer.dataset_json)

    def _views(self, image: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        return views.two_views(image, generator, rgb=self.rgb)

    def network(self, unet: nn.Module) -> nn.Module:
        """Return encoder, pooling and projection."""
        return contrastive_network(unet)

    def loss(self) -> nn.Module:
        """Return the normalised, temperature-scaled cross-entropy."""
        return NTXentLoss()

    def check_before_training(self) -> None:
        """Refuse batches with a single patch, which has nothing to compare with."""
        if self.trainer.batch_size < 2:
            raise PlansError(
                f"{self.trainer.settings.base} tells the patches of a batch apart, and a batch of "
                f"{self.trainer.configuration_name} has 1 (in each process); plan with a batch size of 2 or more, for "
                f"instance with nnunet_transfer plan --batch-size 2"
            )

    def training_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return two views of each patch as input and the partner of each view as target."""
        image = self.to_device(batch["data"])
        return {"data": self._views(image), "target": partners(len(image), device=self.trainer.device)}

    def validate_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the loss of a batch, and which views retrieved their partners."""
        image = self.to_device(batch["data"])
        with self.trainer.precision():
            projections = self.trainer.network(self._views(image, self.validation_generator)).float()
        found = retrieved(projections)
        return {
            "loss": float(self.trainer.loss(projections, partners(len(image), device=self.trainer.device))),
            "found": int(found.sum()),
            "views": len(found),
        }

    def epoch_score(self, outputs: Sequence[dict[str, Any]]) -> tuple[str, float, list[float]]:
        """Return the share of views whose nearest neighbour in the batch is their partner."""
        share = sum(output["found"] for output in outputs) / sum(output["views"] for output in outputs)
        return "top-1 retrieval of partners in the batch", share, [share]

    def score_case(self, network: nn.Module, case: str) -> torch.Tensor:
        """Return the projections of two views of a case's central patch, `(2, projection)`, on the CPU."""
        return network(self._views(self.central_patch(case), self.case_generator(case))).float().cpu()

    def summarise(self, cases: Sequence[str], results: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Return how well each case is distinguished from all others."""
        projections = torch.stack(list(results), dim=1).flatten(0, 1)
        each = case_scores(projections)
        return {
            "task": "self_supervised",
            **self.details(),
            **contrastive_scores(projections),
            "n_cases": len(cases),
            "cases": [{"case": case, **scores} for case, scores in zip(cases, each, strict=True)],
        }

    def details(self) -> dict[str, Any]:
        """Return the settings of views and loss."""
        return {
            "method": "simclr",
            "temperature": TEMPERATURE,
            "projection_size": PROJECTION_SIZE,
            "crop_share": list(views.CROP_SHARE),
            "gamma": list(views.GAMMA),
            "contrast": views.CONTRAST,
            "brightness": views.BRIGHTNESS,
            "grey": views.GREY if self.rgb else 0.0,
            "batch_size": self.trainer.batch_size,
        }
