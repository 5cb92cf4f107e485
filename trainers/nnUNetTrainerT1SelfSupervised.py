from nnunet_transfer.finetuning.trainer import FineTuningTrainer
from nnunet_transfer.naming import TrainerName


class nnUNetTrainerT1SelfSupervised(FineTuningTrainer):
    """Fine-tune the source pre-trained on T1 brain MRI without labels."""

    settings = TrainerName("nnUNetTrainerT1SelfSupervised")
