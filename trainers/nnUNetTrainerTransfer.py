from nnunet_transfer.finetuning.trainer import FineTuningTrainer
from nnunet_transfer.naming import TrainerName


class nnUNetTrainerTransfer(FineTuningTrainer):
    """Fine-tune any source: the one that the transfer plans name."""

    settings = TrainerName("nnUNetTrainerTransfer")
