from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.self_supervised.masked_autoencoder import MaskedAutoencoderPretrainer


class nnUNetPretrainerSelfSupervised(MaskedAutoencoderPretrainer):
    """Pre-train the whole network without labels, by masked autoencoding."""

    settings = TrainerName("nnUNetPretrainerSelfSupervised")
