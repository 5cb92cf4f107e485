from nnunet_transfer.finetuning.trainer import FineTuningTrainer
from nnunet_transfer.naming import TrainerName


class nnUNetTrainerScratch(FineTuningTrainer):
    """The control arm: random initialisation, with the same training as in the other arms."""

    settings = TrainerName("nnUNetTrainerScratch")
