"""Optimiser and schedule of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from nnunet_transfer.finetuning.parameters import parameter_groups
from nnunet_transfer.finetuning.scheduler import RecipeScheduler
from nnunet_transfer.recipes import Recipe


def optimiser_of(
    recipe: Recipe, network: nn.Module, num_epochs: int, host: Callable[[], tuple[Optimizer, Any]]
) -> tuple[Optimizer, RecipeScheduler]:
    """Return the optimiser with the recipe's parameter groups, and its schedule.

    Parameters
    ----------
    host : returns nnU-Net's optimiser, whose type and momentum are used for SGD
    """
    rate = recipe.optimiser.rate
    groups = parameter_groups(network, recipe, recipe.optimiser.weight_decay)
    optimizer: Optimizer
    if recipe.optimiser.kind == "AdamW":
        optimizer = _adamw(groups, rate)
    else:
        own, _ = host()
        optimizer = type(own)(groups, **{k: v for k, v in own.defaults.items() if k != "weight_decay"})
    return optimizer, RecipeScheduler(optimizer, rate, num_epochs, recipe)


def _adamw(groups: list[dict[str, Any]], rate: float) -> AdamW:
    """Return AdamW, with the fused kernel if torch has one for the device.

    Without a GPU, the loop over the weights of a small network takes a tenth of an iteration, the fused kernel a hundredth.
    """
    try:
        return AdamW(groups, rate, fused=True)
    except RuntimeError:
        return AdamW(groups, rate)
