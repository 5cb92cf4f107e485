from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.self_supervised import SelfSupervisedPretrainer


class nnUNetPretrainerSelfSupervised(SelfSupervisedPretrainer):
    """Pre-train the whole network without labels, by masked autoencoding."""

    settings = TrainerName("nnUNetPretrainerSelfSupervised")
