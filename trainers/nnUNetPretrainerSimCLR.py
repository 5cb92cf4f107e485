from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.self_supervised.contrastive import SimCLRTask
from nnunet_transfer.pretraining.task_trainer import TaskPretrainer


class nnUNetPretrainerSimCLR(TaskPretrainer):
    """Pre-train the encoder without labels, by SimCLR."""

    settings = TrainerName("nnUNetPretrainerSimCLR")
    task_type = SimCLRTask
