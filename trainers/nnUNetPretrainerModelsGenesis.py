from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.self_supervised.models_genesis import ModelsGenesisTask
from nnunet_transfer.pretraining.task_trainer import TaskPretrainer


class nnUNetPretrainerModelsGenesis(TaskPretrainer):
    """Pre-train the whole network without labels, by Models Genesis."""

    settings = TrainerName("nnUNetPretrainerModelsGenesis")
    task_type = ModelsGenesisTask
