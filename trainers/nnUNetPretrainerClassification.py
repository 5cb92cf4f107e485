from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.classification.trainer import ClassificationPretrainer


class nnUNetPretrainerClassification(ClassificationPretrainer):
    """Pre-train the encoder on what `classes.csv` says of a data set's cases: classes, or a number such as the age."""

    settings = TrainerName("nnUNetPretrainerClassification")
