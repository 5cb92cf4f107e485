"""Fine-tuning: nnU-Net's training, started from a source."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.optim import Optimizer

from nnunet_transfer._nnunet import unwrapped
from nnunet_transfer.adaptation import TransferReport, transfer_weights
from nnunet_transfer.errors import PlansError, SettingsError
from nnunet_transfer.finetuning.recipes import RECIPES
from nnunet_transfer.finetuning.scheduler import RecipeScheduler
from nnunet_transfer.naming import ARMS, TRANSFER
from nnunet_transfer.sources import load_source
from nnunet_transfer.training.base import NamedTrainer

REPORT_FILE = "transfer_report.json"


class FineTuningTrainer(NamedTrainer):
    """An arm: nnU-Net's trainer whose network starts from a source, or at random in the control arm.

    The weights enter once, in place, at epoch 0 of a fresh training: not in `initialize`, which also serves `--c`
    and `--val`, and not in `build_network_architecture`, which serves inference. Those work without the source.
    """

    def initialize(self) -> None:
        """Build as nnU-Net does and note the initial weights."""
        super().initialize()
        self._initial_weights = _fingerprint(unwrapped(self.network))

    def source_name(self) -> str | None:
        """Return the name of the source to start from; `None` in the control arm."""
        if self.settings.base != TRANSFER:
            return ARMS[self.settings.base]
        block = self.plans_manager.plans.get("transfer") or {}
        if not block.get("source"):
            raise PlansError(
                f"{TRANSFER} takes its source from the plans, but {self.plans_manager.plans_name} names none; write "
                f"such plans with `nnunet_transfer plan -d {self.plans_manager.dataset_name} --source NAME` and train "
                f"with -p"
            )
        return block["source"]

    def prepare_fresh_network(self) -> None:
        """Load the source's weights and write the transfer report into the fold's folder."""
        network = unwrapped(self.network)
        if not torch.equal(_fingerprint(network), self._initial_weights):
            raise SettingsError(
                f"{self.__class__.__name__} takes its weights from its source; drop -pretrained_weights, or use "
                f"nnUNetTrainer with it"
            )
        name = self.source_name()
        if name is None:
            self.print_to_log_file("Control arm: the network starts at random.")
            return
        report = transfer_weights(
            network,
            load_source(name),
            scope="encoder" if self.settings.encoder_only else "encoder+decoder",
            channel_names=list(self.dataset_json["channel_names"].values()),
        )
        self._log_report(report)

    def _log_report(self, report: TransferReport) -> None:
        if self.local_rank == 0:
            report.write(Path(self.output_folder) / REPORT_FILE)
        self.print_to_log_file(report.table(), add_timestamp=False)

    def configure_optimizers(self) -> tuple[Optimizer, RecipeScheduler]:
        """Return nnU-Net's optimiser with the recipe's schedule."""
        optimizer, _ = super().configure_optimizers()
        recipe = RECIPES[self.settings.recipe]
        return optimizer, RecipeScheduler(optimizer, self.initial_lr, self.num_epochs, recipe)


def _fingerprint(network: torch.nn.Module) -> torch.Tensor:
    """Return the sum of each parameter: a cheap means to see whether anybody changed the weights."""
    with torch.no_grad():
        return torch.stack([p.sum() for p in network.parameters()])
