from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.self_supervised.models_genesis import ModelsGenesisPretrainer


class nnUNetPretrainerModelsGenesis(ModelsGenesisPretrainer):
    """Pre-train the whole network without labels, by Models Genesis."""

    settings = TrainerName("nnUNetPretrainerModelsGenesis")
