"""Fine-tuning recipes: the learning rate of every epoch, as data and pure functions.

A recipe is the same for all arms, the control arm included, so that arms differ in their weights alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A fine-tuning schedule.

    Attributes
    ----------
    name : suffix in a trainer's name
    warmup_share : share of all epochs with a linearly rising learning rate. 50 of 1000 epochs in nnU-Net's
        fine-tuning of nnssl networks (Wald et al., "An OpenMind for 3D medical vision self-supervised learning",
        ICCV 2025; `nnUNetv2_train_pretrained`), hence 0.05.
    exponent : exponent of the polynomial decay; 0.9 in nnU-Net (Isensee et al., Nat Methods 2021;18:203-211)
    """

    name: str
    warmup_share: float = 0.0
    exponent: float = 0.9

    def warmup_epochs(self, num_epochs: int) -> int:
        """Return the number of warm-up epochs, rounded up, and none where all epochs would be warm-up."""
        epochs = -(-num_epochs * self.warmup_share // 1)
        return int(min(epochs, num_epochs - 1))

    def learning_rate_factor(self, epoch: int, num_epochs: int) -> float:
        """Return the learning rate of `epoch` (from 0) as a share of the initial learning rate.

        During w warm-up epochs it is (epoch + 1) / (w + 1); then (1 - (epoch - w) / (num_epochs - w)) ** exponent.
        """
        warmup = self.warmup_epochs(num_epochs)
        if epoch < warmup:
            return (epoch + 1) / (warmup + 1)
        return (1 - (epoch - warmup) / (num_epochs - warmup)) ** self.exponent


RECIPES: dict[str, Recipe] = {r.name: r for r in (Recipe("warmup", warmup_share=0.05), Recipe("full"))}
