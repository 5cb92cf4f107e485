from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.self_supervised.contrastive import SimCLRPretrainer


class nnUNetPretrainerSimCLR(SimCLRPretrainer):
    """Pre-train the encoder without labels, by SimCLR."""

    settings = TrainerName("nnUNetPretrainerSimCLR")
