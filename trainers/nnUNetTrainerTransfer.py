from nnunet_transfer.finetuning.trainer import FineTuningTrainer
from nnunet_transfer.naming import TrainerName


class nnUNetTrainerTransfer(FineTuningTrainer):
    """Fine-tune the source named in the transfer plans."""

    settings = TrainerName("nnUNetTrainerTransfer")
