"""Plans that only a training passes to `build_network_architecture`, not inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn


class TrainingPlans(PlansManager):
    """nnU-Net's plans with a training's own number of outputs and change of the network.

    nnU-Net builds networks for training and inference with one static method that gets the plans. Information that only a
    training has is attached to the plans object. For inference, nnU-Net reads the plans from a file without it.

    Parameters
    ----------
    plans : content of the plans file
    outputs : number of outputs of the U-Net
    finish : function that makes the network to train from the U-Net; None keeps the U-Net
    """

    def __init__(
        self, plans: dict[str, Any], *, outputs: int, finish: Callable[[nn.Module], nn.Module] | None = None
    ) -> None:
        super().__init__(plans)
        self.outputs = outputs
        self.finish = finish
