from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.self_supervised.masked_autoencoder import MaskedAutoencodingTask
from nnunet_transfer.pretraining.task_trainer import TaskPretrainer


class nnUNetPretrainerSelfSupervised(TaskPretrainer):
    """Pre-train the whole network without labels, by masked autoencoding."""

    settings = TrainerName("nnUNetPretrainerSelfSupervised")
    task_type = MaskedAutoencodingTask
