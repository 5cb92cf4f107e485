"""The learning-rate scheduler that nnU-Net's trainer steps once per epoch."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nnunet_transfer.recipes import Recipe


class RecipeScheduler(LRScheduler):
    """Set every parameter group's learning rate from the epoch alone, so that `--c` needs no stored state."""

    def __init__(self, optimizer: Optimizer, initial_lr: float, num_epochs: int, recipe: Recipe) -> None:
        self.initial_lr = initial_lr
        self.num_epochs = num_epochs
        self.recipe = recipe
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Set the rates for `epoch`; nnU-Net passes the current epoch."""
        rate = self.initial_lr * self.recipe.at(epoch or 0, self.num_epochs).factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
