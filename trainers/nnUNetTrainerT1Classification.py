from nnunet_transfer.finetuning.trainer import FineTuningTrainer
from nnunet_transfer.naming import TrainerName


class nnUNetTrainerT1Classification(FineTuningTrainer):
    """Fine-tune the source pre-trained by classifying T1 brain MRI."""

    settings = TrainerName("nnUNetTrainerT1Classification")
