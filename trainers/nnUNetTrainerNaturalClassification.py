from nnunet_transfer.finetuning.trainer import FineTuningTrainer
from nnunet_transfer.naming import TrainerName


class nnUNetTrainerNaturalClassification(FineTuningTrainer):
    """Fine-tune the source pre-trained by classifying natural images."""

    settings = TrainerName("nnUNetTrainerNaturalClassification")
