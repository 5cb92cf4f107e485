from nnunet_transfer.finetuning.trainer import FineTuningTrainer
from nnunet_transfer.naming import TrainerName


class nnUNetTrainerNaturalSegmentation(FineTuningTrainer):
    """Fine-tune the source pre-trained by segmenting natural images."""

    settings = TrainerName("nnUNetTrainerNaturalSegmentation")
