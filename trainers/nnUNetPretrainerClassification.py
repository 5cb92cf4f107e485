from nnunet_transfer.naming import TrainerName
from nnunet_transfer.pretraining.classification.task import ClassificationTask
from nnunet_transfer.pretraining.task_trainer import TaskPretrainer


class nnUNetPretrainerClassification(TaskPretrainer):
    """Pre-train the encoder on the entries of `classes.csv` for whole cases: classes, or a number such as the age."""

    settings = TrainerName("nnUNetPretrainerClassification")
    task_type = ClassificationTask
