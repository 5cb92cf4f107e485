from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.classification import ClassificationPretrainer


class nnUNetPretrainerClassification(ClassificationPretrainer):
    """Pre-train the encoder by classifying the cases of a data set with `classes.csv`."""

    settings = TrainerName("nnUNetPretrainerClassification")
