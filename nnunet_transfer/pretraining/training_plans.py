"""Plans that a training hands to `build_network_architecture` and that inference doesn't have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn


class TrainingPlans(PlansManager):
    """nnU-Net's plans with a training's own number of outputs and change of the network.

    nnU-Net builds a network through one static method for training and for inference, and gives it the plans. What
    only a training knows travels with the plans; nnU-Net reads plans from a file for inference, so it isn't there.

    Parameters
    ----------
    plans : the content of the plans' file
    outputs : number of the U-Net's outputs
    finish : makes the network to train from the U-Net; None leaves it as it is
    """

    def __init__(
        self, plans: dict[str, Any], *, outputs: int, finish: Callable[[nn.Module], nn.Module] | None = None
    ) -> None:
        super().__init__(plans)
        self.outputs = outputs
        self.finish = finish
