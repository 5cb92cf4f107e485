from nnunet_transfer.finetuning.trainer import FineTuningTrainer
from nnunet_transfer.naming import TrainerName


class nnUNetTrainerNaturalSelfSupervised(FineTuningTrainer):
    """Fine-tune the source pre-trained on natural images without labels."""

    settings = TrainerName("nnUNetTrainerNaturalSelfSupervised")
