from nnunet_transfer.finetuning.trainer import FineTuningTrainer
from nnunet_transfer.naming import TrainerName


class nnUNetTrainerScratch(FineTuningTrainer):
    """The control arm: the network starts at random; everything else is as in the other arms."""

    settings = TrainerName("nnUNetTrainerScratch")
