from nnunet_transfer.finetuning.trainer import FineTuningTrainer
from nnunet_transfer.naming import TrainerName


class nnUNetTrainerT1Segmentation(FineTuningTrainer):
    """Fine-tune the source pre-trained by segmenting T1 brain MRI."""

    settings = TrainerName("nnUNetTrainerT1Segmentation")
